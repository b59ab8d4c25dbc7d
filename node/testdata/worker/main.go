// Command worker is the only program in the image of the node's tests. Its first argument says what it
// does: "serve" answers HTTP and ends on SIGTERM, "exit CODE MESSAGE" leaves a termination message
// and ends, "cat FILE..." prints files, "env NAME..." prints variables, "true" does nothing.
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	args := os.Args[1:]
	if len(args) == 0 {
		args = []string{"serve"}
	}
	switch args[0] {
	case "serve":
		fmt.Println("serving")
		go func() {
			_ = http.ListenAndServe(":8080", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }))
		}()
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		<-stop
		fmt.Println("stopped")
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("deaf")
		time.Sleep(time.Hour)
	case "exit":
		code, _ := strconv.Atoi(args[1])
		_ = os.WriteFile("/dev/termination-log", []byte(args[2]), 0o644)
		fmt.Fprintln(os.Stderr, "leaving with", code)
		os.Exit(code)
	case "cat":
		for _, f := range args[1:] {
			b, err := os.ReadFile(f)
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			fmt.Printf("== %s\n%s\n", f, b)
		}
		time.Sleep(time.Hour)
	case "env":
		for _, n := range args[1:] {
			fmt.Printf("%s=%s\n", n, os.Getenv(n))
		}
		time.Sleep(time.Hour)
	}
}
