package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// loadSettings reads a YAML file whose keys are the names of flags; a flag on the command line
// wins over the file.
func loadSettings(file string, flags *pflag.FlagSet) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	settings := make(map[string]any)
	if err := yaml.UnmarshalStrict(raw, &settings); err != nil {
		return fmt.Errorf("--config %s: %w", file, err)
	}
	for name, value := range settings {
		f := flags.Lookup(name)
		if f == nil || name == "config" || name == "help" {
			return fmt.Errorf("--config %s: no setting is called %q; there are %s", file, name, strings.Join(settingNames(flags), ", "))
		}
		if f.Changed {
			continue
		}
		switch value.(type) {
		case string, bool, float64:
		default:
			return fmt.Errorf("--config %s: %s: it takes one value", file, name)
		}
		if err := flags.Set(name, fmt.Sprint(value)); err != nil {
			return fmt.Errorf("--config %s: %s: %w", file, name, err)
		}
	}
	return nil
}

func settingNames(flags *pflag.FlagSet) []string {
	var out []string
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name != "config" && f.Name != "help" {
			out = append(out, f.Name)
		}
	})
	slices.Sort(out)
	return out
}
