package api_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
)

const (
	definitionsPath = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	widgetsPath     = "/apis/example.com/v1/namespaces/default/widgets"
	widgetVictim    = widgetsPath + "/victim"
)

// rawDefinition is the JSON of a definition with the schema given, in which nothing else is wrong.
func rawDefinition(schema string) []byte { return rawVersions(rawVersion("v1", true, schema)) }

func rawVersions(versions string) []byte {
	return []byte(`{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"bombs.example.com"},` +
		`"spec":{"group":"example.com","scope":"Namespaced","names":{"plural":"bombs","kind":"Bomb"},"versions":[` + versions + `]}}`)
}

func rawVersion(name string, storage bool, schema string) string {
	return fmt.Sprintf(`{"name":%q,"served":true,"storage":%t,"schema":{"openAPIV3Schema":%s}}`, name, storage, schema)
}

// rawRule is a schema of a list whose one rule is the expression given, with the bounds given.
func rawRule(bounds, rule string) string {
	text, _ := json.Marshal(rule)
	return `{"type":"object","properties":{"spec":{"type":"array",` + bounds + `"items":{"type":"string"},"x-kubernetes-validations":[{"rule":` + string(text) + `}]}}}`
}

// rawWidget is the JSON of a custom resource with the members given besides its kind.
func rawWidget(members string) []byte {
	return []byte(`{"apiVersion":"example.com/v1","kind":"Widget",` + members + `}`)
}

// rawPolicy makes a policy with the validations given.
func rawPolicy(name, validations string) hostile {
	return hostile{name: name, method: http.MethodPost, path: "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies", mime: jsonMIME,
		body: []byte(`{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicy","metadata":{"name":"bomb"},"spec":{"matchConstraints":{"resourceRules":[` +
			`{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE"],"resources":["configmaps"]}]},"validations":[` + validations + `]}}`)}
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// nest puts a text into itself n times: open and end are what is around it each time.
func nest(open, core, end string, n int) string {
	return strings.Repeat(open, n) + core + strings.Repeat(end, n)
}

// customAttacks are those on definitions and on what they define.
var customAttacks = []func(r *rand.Rand) hostile{
	func(r *rand.Rand) hostile { // schemas in each other, by every member that has schemas
		open, end := `{"type":"object","properties":{"a":`, `}}`
		if name := pick(r, "properties", "definitions", "patternProperties", "dependencies"); name != "properties" {
			open = `{"type":"object","` + name + `":{"a":`
		}
		if name := pick(r, "", "items", "not", "additionalProperties", "additionalItems"); name != "" {
			open, end = `{"type":"array","`+name+`":`, `}`
		} else if name := pick(r, "", "allOf", "anyOf", "oneOf"); name != "" {
			open, end = `{"`+name+`":[`, `]}`
		}
		return hostile{name: "definition deep", method: http.MethodPost, path: definitionsPath, mime: jsonMIME,
			body: rawDefinition(nest(open, `{"type":"string"}`, end, 257+r.IntN(220)))}
	},
	func(r *rand.Rand) hostile { // more schemas than anybody has
		var b strings.Builder
		for i := range 30_001 + r.IntN(30_000) {
			fmt.Fprintf(&b, `"p%d":{"type":"string"},`, i)
		}
		name := pick(r, "properties", "dependencies", "definitions")
		return hostile{name: "definition wide", method: http.MethodPost, path: definitionsPath, mime: jsonMIME,
			body: rawDefinition(`{"type":"object","` + name + `":{` + strings.TrimSuffix(b.String(), ",") + `}}`)}
	},
	func(r *rand.Rand) hostile { // more rules than anybody has
		rules := strings.Repeat(`{"rule":"self.a == 'b' || self.a.startsWith('c')"},`, 6_000+r.IntN(12_000))
		return hostile{name: "definition rules", method: http.MethodPost, path: definitionsPath, mime: jsonMIME,
			body: rawDefinition(`{"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"type":"string"}},"x-kubernetes-validations":[` +
				strings.TrimSuffix(rules, ",") + `]}}}`)}
	},
	func(r *rand.Rand) hostile { // expressions whose patterns are large when they are compiled
		var b strings.Builder
		for i := range 3_000 + r.IntN(3_000) {
			fmt.Fprintf(&b, `"p%d":{"type":"string","pattern":"(a%d|b){1000}"},`, i, i)
		}
		return hostile{name: "definition patterns", method: http.MethodPost, path: definitionsPath, mime: jsonMIME,
			body: rawDefinition(`{"type":"object","properties":{` + strings.TrimSuffix(b.String(), ",") + `}}`)}
	},
	func(r *rand.Rand) hostile { // a rule that would take for ever
		n := 3 + r.IntN(6)
		var open strings.Builder
		for i := range n {
			fmt.Fprintf(&open, "self.all(x%d, ", i)
		}
		return hostile{name: "rule of loops", method: http.MethodPost, path: definitionsPath, mime: jsonMIME,
			body: rawDefinition(rawRule(pick(r, "", `"maxItems":100000,`), open.String()+"x0 == x1"+strings.Repeat(")", n)))}
	},
	func(r *rand.Rand) hostile { // a rule that is none, or too much of one
		n := 300 + r.IntN(20_000)
		rule := pick(r,
			nest("(", "true", ")", n), nest("[", "1", "]", n)+" == []", nest("!", "1", "", n), nest("-", "1", "", n)+" == 'a'",
			nest("true ? true : (", "true", ")", n), nest("self.map(x, ", "x", ")", n)+" == []", nest("{'a': ", "1", "}", n)+".size() == 1",
			"self"+strings.Repeat("[0]", n)+" == 1", "self.size() == "+strings.Repeat("9", n), "'"+strings.Repeat("x", 100_001)+"' == self[0]",
			"self.all(x, x.matches('"+nest("(", "a", ")*", 1001)+"'))", "self.matches('[')", "unknown(self)", "self ==", "1", "", "\x00", "self[0] + 1 > 2",
			"oldSelf.size() == self.nothing", "'\\u00'", "self.all(x, self.all(y, y.replace(x, x+x+x+x) == x))")
		return hostile{name: "rule", method: http.MethodPost, path: definitionsPath, mime: jsonMIME,
			body: rawDefinition(rawRule("", rule))}
	},
	func(r *rand.Rand) hostile { // policies with more to compile than anybody has
		return rawPolicy("policy large", strings.TrimSuffix(strings.Repeat(`{"expression":"object.metadata.name == 'a' || object.metadata.name.startsWith('b')"},`, 1_001+r.IntN(18_000)), ","))
	},
	func(r *rand.Rand) hostile { // policies of rules that are none
		n := 300 + r.IntN(18_000)
		return rawPolicy("policy", pick(r, `{"expression":"(("}`, `{"expression":"1"}`, `{"expression":""}`, `{"expression":"unknown(object)"}`, `{"expression":"params.a"}`,
			`{"expression":"`+nest("(", "true", ")", n)+`"}`, `{"expression":"`+nest("!", "1", "", n)+`"}`, `{"expression":"true","messageExpression":"1"}`, `{"expression":"true","reason":"Bad"}`))
	},
	func(r *rand.Rand) hostile { // schemas that are none
		return hostile{name: "schema", method: http.MethodPost, path: definitionsPath, mime: jsonMIME, body: rawDefinition(pick(r,
			`{}`, `[]`, `1`, `"text"`, `{"type":"nothing"}`, `{"type":"string"}`, `{"$ref":"#/definitions/self"}`, `{"type":"object","$ref":"http://example.com"}`,
			`{"type":"object","properties":{"a":{}}}`, `{"type":"object","properties":{"a":{"type":"array"}}}`, `{"type":"object","properties":{"a":{"type":"string","pattern":"(("}}}`,
			`{"type":"object","properties":{"a":{"type":"string","pattern":"(x{1000}){1000}"}}}`, `{"type":"object","properties":{"a":{"type":"integer","default":"text"}}}`,
			`{"type":"object","properties":{"a":{"type":"string","default":{"b":"c"}}}}`, `{"type":"object","properties":{"a":{"type":"array","items":[{"type":"string"}]}}}`,
			`{"type":"object","properties":{"metadata":{"type":"object","properties":{"labels":{"type":"string"}}}}}`,
			`{"type":"object","additionalProperties":true}`, `{"type":"object","properties":{"a":{"type":"object","x-kubernetes-list-type":"set"}}}`,
			`{"type":"object","properties":{"a":{"type":"array","x-kubernetes-list-type":"map","items":{"type":"object"}}}}`,
			`{"type":"object","x-kubernetes-preserve-unknown-fields":false}`, `{"type":"object","nullable":true}`, `{"type":"object","properties":{"a":{"not":{"type":"string"}}}}`))}
	},
	func(r *rand.Rand) hostile { // definitions with something else wrong
		good := string(rawDefinition(`{"type":"object"}`))
		long := strings.Repeat("x", 64+r.IntN(5000))
		swap := func(was, is string) string { return strings.Replace(good, was, is, 1) }
		column := func(path string) string {
			text, _ := json.Marshal(path)
			return swap(`"served"`, `"additionalPrinterColumns":[{"name":"a","type":"string","jsonPath":`+string(text)+`}],"served"`)
		}
		return hostile{name: "definition", method: http.MethodPost, path: definitionsPath, mime: jsonMIME, body: []byte(pick(r,
			swap("bombs.example.com", "other.example.com"), swap(`"plural":"bombs"`, `"plural":"`+long+`"`), swap(`"Namespaced"`, `"Everywhere"`), swap(`"Bomb"`, `"-"`),
			swap(`"storage":true`, `"storage":false`), swap(`"served":true`, `"served":"x"`), swap(`"name":"v1"`, `"name":"V 1"`), swap(`"group":"example.com"`, `"group":"k8s.io"`),
			swap(`"plural"`, `"shortNames":["A B"],"plural"`), swap(`"plural"`, `"categories":["`+long+`"],"plural"`),
			swap(`"scope"`, `"conversion":{"strategy":"Webhook"},"scope"`), swap(`"scope"`, `"conversion":{"strategy":"None","webhook":{"conversionReviewVersions":["v1"]}},"scope"`),
			swap(`"scope"`, `"conversion":{"strategy":"Webhook","webhook":{"conversionReviewVersions":["v1"],"clientConfig":{"url":"http://example.com"}}},"scope"`),
			swap(`"scope"`, `"preserveUnknownFields":true,"scope"`), column(nest("{[?(", "@", ")]}", 1000)), column("spec"), column("{.a}{.b"),
			swap(`"served"`, `"subresources":{"scale":{"specReplicasPath":"a"}},"served"`), swap(`"served"`, `"selectableFields":[{"jsonPath":".spec.nothing"}],"served"`),
			string(rawVersions(strings.TrimSuffix(strings.Repeat(rawVersion("v1", true, `{"type":"object"}`)+",", 2+r.IntN(2000)), ",")))))}
	},
	func(r *rand.Rand) hostile { // a definition of a thousand million laughs
		var b strings.Builder
		b.WriteString("x0: &x0 {type: object, properties: {a: {type: string}, b: {type: string}}}\n")
		n := 10 + r.IntN(30)
		for i := 1; i < n; i++ {
			fmt.Fprintf(&b, "x%d: &x%d {type: object, properties: {a: *x%d, b: *x%d, c: *x%d}}\n", i, i, i-1, i-1, i-1)
		}
		fmt.Fprintf(&b, "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: bombs.example.com}\nspec:\n group: example.com\n scope: Namespaced\n"+
			" names: {plural: bombs, kind: Bomb}\n versions:\n - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: *x%d}}\n", n-1)
		h := hostile{name: "definition of aliases", method: http.MethodPost, path: definitionsPath, mime: "application/yaml", body: []byte(b.String())}
		if r.IntN(2) == 0 {
			h.method, h.path, h.mime = http.MethodPatch, definitionsPath+"/bombs.example.com?fieldManager=m", applyPatch
		}
		return h
	},
	func(r *rand.Rand) hostile { // custom resources that are too deep, too many, or too large
		n := 1001 + r.IntN(50_000)
		members := pick(r, `"spec":`+nest("[", "1", "]", n), `"spec":`+nest(`{"a":`, "1", "}", n), `"spec":{"parts":[`+strings.Repeat("{},", 20_001+r.IntN(100_000))+`{}]}`,
			`"spec":{`+strings.Repeat(`"a":{},`, 310_000)+`"b":1}`, `"spec":{"colour":"`+strings.Repeat("x", 3<<20)+`"}`)
		return hostile{name: "custom size", method: http.MethodPost, path: widgetsPath, mime: jsonMIME, body: rawWidget(`"metadata":{"name":"a"},` + members)}
	},
	func(r *rand.Rand) hostile { // custom resources that break their schema or its rules
		spec := pick(r, `[]`, `1`, `"x"`, `{}`, `{"size":0}`, `{"size":"1"}`, `{"size":1.5}`, `{"size":1e400}`, `{"size":11}`, `{"size":99999999999999999999}`,
			`{"size":1,"limit":0}`, `{"size":1,"colour":1}`, `{"size":1,"colour":["red"]}`, `{"size":1,"replicas":{}}`, `{"size":1,"parts":{}}`, `{"size":1,"parts":[1]}`,
			`{"size":1,"parts":[{"count":1}]}`, `{"size":1,"parts":[{"name":"a"},{"name":"a"}]}`, `{"size":1,"parts":[{"name":{}}]}`, `{"size":1,"parts":[null]}`,
			`{"size":1,"limit":"`+strings.Repeat("9", 1+r.IntN(5000))+`"}`)
		return hostile{name: "custom schema", method: http.MethodPost, path: widgetsPath, mime: jsonMIME, body: rawWidget(`"metadata":{"name":"a"},"spec":` + spec)}
	},
	func(r *rand.Rand) hostile { // custom resources that are something else
		good := string(rawWidget(`"metadata":{"name":"a"},"spec":{"size":1}`))
		swap := func(was, is string) string { return strings.Replace(good, was, is, 1) }
		h := hostile{name: "custom", method: http.MethodPost, path: widgetsPath + "?fieldValidation=Strict", mime: jsonMIME, body: []byte(pick(r,
			swap("Widget", "Gadget"), swap("example.com/v1", "example.com/v2"), swap("example.com/v1", "a/b/c"), swap(`"kind"`, `"type"`), good[:r.IntN(len(good)-1)], "null", "[]", `"x"`,
			swap(`"a"`, `"A_B"`), swap(`"a"`, `"`+strings.Repeat("a", 254+r.IntN(5000))+`"`), swap(`"a"`, `"victim"`), swap(`"metadata":{"name":"a"}`, `"metadata":[]`),
			swap(`"name":"a"`, `"name":"a","labels":{"a":1}`), swap(`"name":"a"`, `"name":"a","labels":{" ":""}`), swap(`"name":"a"`, `"name":"a","namespace":"other"`),
			swap(`"name":"a"`, `"name":"a","ownerReferences":[{"name":"x"}]`), swap(`"name":"a"`, `"name":"a","finalizers":["a b"]`), swap(`"name":"a"`, `"name":"a","name":"b"`),
			swap(`"size":1`, `"size":1,"unknown":1`), swap(`"size":1`, `"size":1,"size":1`), swap(`"name":"a"`, `"name":"a","generation":"x"`)))}
		if r.IntN(4) == 0 {
			h.mime = pick(r, "application/vnd.kubernetes.protobuf", "application/xml", "text/plain", ";")
		}
		return h
	},
	func(r *rand.Rand) hostile { // patches of one that is there
		mime, body := jsonPatch, ""
		switch r.IntN(6) {
		case 0:
			body = pick(r, "", "[", `{}`, `[{"op":"boo"}]`, `[{"op":"remove","path":"/nothing"}]`, `[{"op":"replace","path":"/metadata/name","value":"b"}]`,
				`[{"op":"replace","path":"/spec","value":1}]`, `[{"op":"replace","path":"/kind","value":"Gadget"}]`)
		case 1:
			body = `[{"op":"add","path":"/spec/a","value":{"x":"` + strings.Repeat("x", 1000) + `"}},` +
				strings.Repeat(`{"op":"copy","from":"/spec","path":"/spec/a/x"},`, 20+r.IntN(60)) + `{"op":"test","path":"/kind","value":"Widget"}]`
		case 2:
			mime, body = mergePatch, pick(r, "[", `{"spec":{"size":null}}`, `{"spec":{"colour":"green"}}`, `{"metadata":{"name":"b"}}`, `{"metadata":{"labels":[]}}`, `{"spec":`+nest(`{"a":`, "1", "}", 1001)+`}`)
		case 3: // which custom resources do not have
			mime, body = strategic, `{"spec":{"size":2}}`
		case 4:
			mime, body = applyPatch, pick(r, "[", "a: [", `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"b"}}`, `{"apiVersion":"example.com/v1","kind":"Gadget"}`,
				string(rawWidget(`"metadata":{"name":"victim","managedFields":[{"manager":"x"}]},"spec":{"size":3}`)), string(rawWidget(`"spec":{"size":0}`)))
		default: // doubled by aliases
			var b strings.Builder
			b.WriteString("a0: &a0 [1,1,1,1,1,1,1,1,1]\n")
			for i := 1; i < 8+r.IntN(20); i++ {
				fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9), ","))
			}
			mime, body = applyPatch, b.String()+"apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: victim}\n"
		}
		return hostile{name: "custom patch", method: http.MethodPatch, path: widgetVictim + "?fieldManager=m&fieldValidation=Strict", mime: mime, body: []byte(body)}
	},
	func(r *rand.Rand) hostile { // subresources and questions
		h := pick(r, hostile{method: http.MethodPut, path: widgetVictim + "/scale", mime: jsonMIME, body: []byte(`{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"victim"},"spec":{"replicas":-1}}`)},
			hostile{method: http.MethodPut, path: widgetVictim + "/status", mime: jsonMIME, body: rawWidget(`"metadata":{"name":"victim"},"status":{"replicas":"x"}`)},
			hostile{method: http.MethodPatch, path: widgetVictim + "/status", mime: mergePatch, body: []byte(`{"status":[]}`)},
			hostile{method: http.MethodGet, path: widgetVictim + "/nothing"}, hostile{method: http.MethodGet, path: widgetsPath + "?fieldSelector=spec.size%3D1"},
			hostile{method: http.MethodGet, path: widgetsPath + "?labelSelector=a+in+("}, hostile{method: http.MethodGet, path: widgetsPath + "?limit=x"},
			hostile{method: http.MethodGet, path: widgetsPath + "?continue=%00"}, hostile{method: http.MethodGet, path: "/apis/example.com/v9/widgets"})
		h.name = "custom subresource"
		return h
	},
}
