package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// instruction returns the arguments of the last instruction of a kind in the Dockerfile.
func instruction(t *testing.T, text, kind string) string {
	t.Helper()
	all := regexp.MustCompile(`(?m)^`+kind+` (.+)$`).FindAllStringSubmatch(text, -1)
	if len(all) == 0 {
		t.Fatalf("the Dockerfile has no %s", kind)
	}
	return all[len(all)-1][1]
}

// serves returns what a command line makes of the flags of serve.
func serves(t *testing.T, args []string) serveFlags {
	t.Helper()
	var c commands
	parser, err := newParser(&c, io.Discard, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parse(parser, args, errors.New("exited")); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return c.Serve.serveFlags
}

// words returns the words of a list as the Dockerfile has it.
func words(t *testing.T, list string) []string {
	t.Helper()
	var all []string
	if err := yaml.Unmarshal([]byte(list), &all); err != nil { // JSON is YAML
		t.Fatal(err)
	}
	return all
}

// setEnvironment sets the environment of the image, and no other one that serve reads.
func setEnvironment(t *testing.T, dockerfile string) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AGENTO_") || name == "DOCKER_HOST" {
			t.Setenv(name, "") // which is restored
			_ = os.Unsetenv(name)
		}
	}
	for _, v := range strings.Fields(instruction(t, dockerfile, "ENV")) {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
}

// TestDockerfile: what the image starts is what agento takes, and the paths are there.
func TestDockerfile(t *testing.T) {
	text := readSource(t, "Dockerfile")
	setEnvironment(t, text)
	f := serves(t, words(t, instruction(t, text, "CMD")))
	if f.Runtime != runtimeDocker || f.Data != instruction(t, text, "VOLUME") || f.Listen != "0.0.0.0:"+instruction(t, text, "EXPOSE") {
		t.Errorf("%+v", f)
	}
	if user := instruction(t, text, "USER"); !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(user) {
		t.Errorf("it runs as %s", user)
	}
	for _, path := range regexp.MustCompile(`\./cmd/\S+`).FindAllString(text, -1) {
		if _, err := os.Stat(filepath.Join("..", "..", path)); err != nil {
			t.Error(err)
		}
	}
	for line := range strings.Lines(text) {
		if from, ok := strings.CutPrefix(line, "COPY "); ok && !strings.HasPrefix(from, "--from") {
			for _, path := range strings.Fields(from)[:len(strings.Fields(from))-1] {
				if _, err := os.Stat(filepath.Join("..", "..", path)); err != nil {
					t.Error(err)
				}
			}
		}
	}
	checkHasWarning(t, text)
	_, module, _ := strings.Cut(readSource(t, "go.mod"), "\ngo ")
	version := strings.Split(module, ".")
	if want := "golang:" + version[0] + "." + version[1] + "-"; !strings.Contains(text, "ARG GO="+want) {
		t.Errorf("the programs are not built with %s", want)
	}
}

func readSource(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// checkHasWarning: whoever reads the file is told what a mounted socket means.
func checkHasWarning(t *testing.T, text string) {
	t.Helper()
	if !strings.Contains(strings.ReplaceAll(text, "\n# ", " "), "WHOEVER REACHES") || !strings.Contains(text, "IS ROOT ON ITS MACHINE") {
		t.Error("it does not say that whoever reaches the socket is root")
	}
}

// composeFile is all that our file uses of the Compose specification.
type composeFile struct {
	Services map[string]struct {
		Build       string   `yaml:"build"`
		Image       string   `yaml:"image"`
		Command     []string `yaml:"command"`
		Ports       []string `yaml:"ports"`
		Volumes     []string `yaml:"volumes"`
		GroupAdd    []string `yaml:"group_add"`
		ReadOnly    bool     `yaml:"read_only"`
		Tmpfs       []string `yaml:"tmpfs"`
		CapDrop     []string `yaml:"cap_drop"`
		SecurityOpt []string `yaml:"security_opt"`
		Init        bool     `yaml:"init"`
		StopGrace   string   `yaml:"stop_grace_period"`
		Restart     string   `yaml:"restart"`
	} `yaml:"services"`
	Volumes map[string]any `yaml:"volumes"`
}

// TestCompose: compose.yaml has no other fields than these, starts what agento takes, and agrees with
// the Dockerfile.
func TestCompose(t *testing.T) {
	text, dockerfile := readSource(t, "compose.yaml"), readSource(t, "Dockerfile")
	checkHasWarning(t, text)
	setEnvironment(t, dockerfile)
	decoder := yaml.NewDecoder(strings.NewReader(text))
	decoder.KnownFields(true)
	var c composeFile
	if err := decoder.Decode(&c); err != nil {
		t.Fatal(err)
	}
	s, ok := c.Services["agento"]
	if !ok || len(c.Services) != 1 {
		t.Fatalf("%+v", c)
	}
	commented := regexp.MustCompile(`(?m)^ +# - (--.+)$`).FindAllStringSubmatch(text, -1)
	if len(commented) == 0 {
		t.Error("no flags to try")
	}
	for _, f := range commented { // they are flags, too
		serves(t, append(slices.Clone(s.Command), f[1]))
	}
	f := serves(t, s.Command)
	_, port, _ := strings.Cut(f.Listen, ":")
	if f.Runtime != runtimeDocker || port != instruction(t, dockerfile, "EXPOSE") || !slices.Equal(s.Ports, []string{"127.0.0.1:" + port + ":" + port}) {
		t.Errorf("%s, %v", f.Listen, s.Ports)
	}
	socket := strings.TrimPrefix(f.Docker.DockerHost, "unix://")
	if want := []string{"data:" + instruction(t, dockerfile, "VOLUME"), socket + ":" + socket}; !slices.Equal(s.Volumes, want) {
		t.Errorf("volumes %v, not %v", s.Volumes, want)
	}
	if _, ok := c.Volumes["data"]; !ok {
		t.Errorf("%v", c.Volumes)
	}
	if s.Build != "." || s.Image == "" || !s.ReadOnly || !s.Init || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) || s.Tmpfs[0] != "/tmp" {
		t.Errorf("%+v", s)
	}
	if len(s.GroupAdd) != 1 || !strings.HasPrefix(s.GroupAdd[0], "${DOCKER_GID:?") || !strings.Contains(s.GroupAdd[0], "stat -c %g "+socket) {
		t.Errorf("groups %v", s.GroupAdd)
	}
	// Every command of the comment is one of ours.
	for _, line := range regexp.MustCompile(`(?m)^# .*exec agento (agento .+)$`).FindAllStringSubmatch(text, -1) {
		var all commands
		parser, err := newParser(&all, io.Discard, io.Discard, func(int) {})
		if err != nil {
			t.Fatal(err)
		}
		args := regexp.MustCompile(`"[^"]*"|\S+`).FindAllString(line[1], -1)
		if _, err := parser.Parse(args[1:]); err != nil {
			t.Errorf("%s: %v", line[1], err)
		}
	}
	if !strings.Contains(readSource(t, "Makefile"), "\nimage: ") {
		t.Error("there is no make image")
	}
}
