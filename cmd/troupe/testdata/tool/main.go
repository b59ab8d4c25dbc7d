// Command tool is the program in the image of the end-to-end tests. Its first argument says what it does:
//
//	serve            answers HTTP on :8080 (PORT) and gRPC health on :9090, ends on SIGTERM
//	lines N          prints N lines and waits
//	exit CODE        waits for DELAY, leaves a termination message and ends
//	cat FILE...      prints files
//	env NAME...      prints variables
//	upper            copies standard input to output in upper case, says whether it has a terminal
//	get URL          prints what a URL answers
//	api PATH         asks the Kubernetes API with the pod's service account
//	touch FILE       makes a file
//	true             does nothing
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "tool:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("what to do?")
	}
	verb, args := args[0], args[1:]
	switch verb {
	case "serve":
		return serve()
	case "lines":
		n, err := strconv.Atoi(args[0])
		for i := range n {
			fmt.Println("line", i)
		}
		wait()
		return err
	case "exit":
		delay, _ := time.ParseDuration(os.Getenv("DELAY"))
		time.Sleep(delay)
		code, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		fmt.Println("leaving with", code)
		_ = os.WriteFile("/dev/termination-log", []byte("told to"), 0o644)
		os.Exit(code)
	case "cat":
		for _, f := range args {
			b, err := os.ReadFile(f)
			if err != nil {
				return err
			}
			fmt.Printf("%s: %s\n", f, b)
		}
	case "env":
		for _, n := range args {
			fmt.Printf("%s=%s\n", n, os.Getenv(n))
		}
	case "upper":
		_, err := unix.IoctlGetTermios(0, unix.TCGETS)
		fmt.Println("terminal:", err == nil)
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			fmt.Println(strings.ToUpper(lines.Text()))
		}
	case "get":
		return get(http.DefaultClient, args[0], "")
	case "api":
		return api(args[0])
	case "touch":
		return os.WriteFile(args[0], nil, 0o644)
	case "true":
	default:
		return fmt.Errorf("%q is unknown", verb)
	}
	return nil
}

func wait() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
}

func serve() error {
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	fmt.Println("serving on", port)
	failed := make(chan error, 2)
	go func() {
		failed <- http.ListenAndServe(":"+port, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "this is", host) }))
	}()
	if l, err := net.Listen("tcp", ":9090"); err == nil {
		s := grpc.NewServer()
		grpc_health_v1.RegisterHealthServer(s, health.NewServer())
		go func() { failed <- s.Serve(l) }()
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	select {
	case <-stop:
		fmt.Println("stopped")
		return nil
	case err := <-failed:
		return err
	}
}

func get(c *http.Client, url, token string) error {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	c.Timeout = 5 * time.Second
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	fmt.Println("status", resp.StatusCode)
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}

func api(path string) error {
	const dir = "/var/run/secrets/kubernetes.io/serviceaccount/"
	token, err := os.ReadFile(dir + "token")
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(dir + "ca.crt")
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	return get(c, "https://kubernetes.default.svc"+path, string(token))
}
