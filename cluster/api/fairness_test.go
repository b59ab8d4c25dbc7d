package api_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	kinds "github.com/troupe-run/troupe/cluster/api/kinds/flowcontrol"
)

func TestRequestsAreSortedIntoLevels(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	schemas, err := c.client.FlowcontrolV1().FlowSchemas().List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	uids := make(map[string]string)
	for _, s := range schemas.Items {
		uids[s.Name] = string(s.UID)
	}
	levels, err := c.client.FlowcontrolV1().PriorityLevelConfigurations().List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	mandatory, suggested := kinds.Bootstrap()
	if want := len(mandatory.Levels) + len(suggested.Levels); len(levels.Items) != want {
		t.Errorf("%d levels when the server is ready, want %d", len(levels.Items), want)
	}
	for _, s := range slices.Concat(mandatory.Schemas, suggested.Schemas) {
		if uids[s.Name] == "" {
			t.Errorf("no schema %s when the server is ready", s.Name)
		}
	}
	// Flow control has read them when it has said that their levels exist.
	eventually(t, func() bool {
		s, err := c.client.FlowcontrolV1().FlowSchemas().Get(ctx, "global-default", metav1.GetOptions{})
		return err == nil && len(s.Status.Conditions) == 1 && s.Status.Conditions[0].Type == flowcontrolv1.FlowSchemaConditionDangling &&
			s.Status.Conditions[0].Status == flowcontrolv1.ConditionFalse
	})
	for _, tc := range []struct {
		cfg    *rest.Config
		schema string
	}{{c.as(t, "admin", "system:masters"), "exempt"}, {c.as(t, "joe"), "global-default"}, {c.as(t, "system:node:n", "system:nodes"), "system-nodes"}} {
		client := must(rest.HTTPClientFor(tc.cfg))
		resp, err := client.Get(c.url + "/api/v1/namespaces/default/pods")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := resp.Header.Get(flowcontrolv1.ResponseHeaderMatchedFlowSchemaUID); got != uids[tc.schema] || resp.Header.Get(flowcontrolv1.ResponseHeaderMatchedPriorityLevelConfigurationUID) == "" {
			t.Errorf("schema %q, want %s %q (%s)", got, tc.schema, uids[tc.schema], resp.Status)
		}
	}
	resp, err := must(rest.HTTPClientFor(c.as(t, "admin", "system:masters"))).Get(c.url + "/debug/api_priority_and_fairness/dump_priority_levels")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), "workload-low") {
		t.Errorf("%s %v\n%s", resp.Status, err, body)
	}
	// What everybody has comes back.
	if err := c.client.FlowcontrolV1().FlowSchemas().Delete(ctx, "probes", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		_, err := c.client.FlowcontrolV1().FlowSchemas().Get(ctx, "probes", metav1.GetOptions{})
		return err == nil
	})
	if _, err := kubernetes.NewForConfigOrDie(c.as(t, "joe")).CoreV1().Pods("default").List(ctx, metav1.ListOptions{}); err == nil {
		t.Error("joe may list pods")
	}
}
