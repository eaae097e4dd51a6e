package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
)

type agentsCreate struct {
	remote
	Name     string   `arg:"" help:"Name of the agent."`
	Region   string   `help:"eu, us, or another region that servers have (agento servers list)."`
	Secret   []string `help:"Secret, such as anthropicApiKey=env:ANTHROPIC_API_KEY. The value is - for standard input, @FILE, or env:NAME." sep:"none" placeholder:"KEY=-|@FILE|env:NAME"`
	Config   []string `help:"Config: a file with JSON or YAML, JSON, or KEY=VALUE." sep:"none" placeholder:"FILE|KEY=VALUE"`
	Soul     string   `help:"File with the agent's personality, SOUL.md; - is standard input." placeholder:"FILE"`
	Workflow string   `help:"File with the agent's role and procedures, WORKFLOW.md; - is standard input." placeholder:"FILE"`
	Swarm    string   `help:"Swarm to put it in: its name, slug or id."`
	Starter  string   `help:"Begin as a ready-made agent: agento agents starters lists them."`
	NoWait   bool     `help:"Do not wait until it runs."`
}

// Run creates an agent. It prints the id alone on standard output, and what happens
// meanwhile on standard error.
func (c agentsCreate) Run(ctx context.Context, t *terminal) error {
	api, err := c.client(ctx)
	if err != nil {
		return err
	}
	in, err := c.request(ctx, t, api)
	if err != nil {
		return err
	}
	created, err := api.BeginAgent(ctx, in)
	if err != nil {
		return err
	}
	if !c.NoWait {
		t.progress("created   %s", created.ID)
		a, err := watchBoot(ctx, t, api, created)
		if errors.Is(err, context.Canceled) {
			t.progress("The agent goes on booting: agento agents get %s shows how far it is.", created.ID)
		}
		if err != nil {
			return err
		}
		created.Status, created.StartedAt = a.Status, a.StartedAt
	}
	return t.print(created, created.ID)
}

func (c agentsCreate) request(ctx context.Context, t *terminal, api *client.Client) (in client.CreateAgentRequest, err error) {
	input := &inputs{in: t.in}
	in = client.CreateAgentRequest{Name: c.Name, Region: c.Region, Starter: c.Starter}
	if in.Secrets, err = input.secrets(c.Secret); err != nil {
		return in, err
	}
	if in.Config, err = input.config(c.Config); err != nil {
		return in, err
	}
	if in.SoulMD, err = input.document(c.Soul); err != nil {
		return in, err
	}
	if in.WorkflowMD, err = input.document(c.Workflow); err != nil {
		return in, err
	}
	if c.Swarm != "" {
		in.SwarmID, err = findSwarm(ctx, api, c.Swarm)
	}
	return in, err
}

const (
	// bootPoll is the pause between two looks at an agent that boots. Each is up to two
	// requests, of which a key may make 120 a minute unless it was given another limit.
	bootPoll = time.Second
	// slowBootPoll is the pause when the start takes long, or after a request that was one
	// too many.
	slowBootPoll = 3 * time.Second
	// longBoot is when a start takes long.
	longBoot = 30 * time.Second
)

// watchBoot prints the steps of an agent's start and returns it when it runs.
func watchBoot(ctx context.Context, t *terminal, api *client.Client, created client.CreatedAgent) (client.Agent, error) {
	w := bootWatch{t: t, api: api, id: created.ID, began: time.Now()}
	for {
		a, err := api.Agent(ctx, created.ID)
		pause := bootPoll
		if time.Since(w.began) > longBoot {
			pause = slowBootPoll
		}
		switch {
		case client.IsCode(err, string(fault.Forbidden)): // the key may start agents and not read them
			started, err := api.StartAgent(ctx, created.ID)
			return client.Agent{Status: started.Status, StartedAt: started.StartedAt}, err
		case client.IsCode(err, string(fault.RateLimited)):
			pause = slowBootPoll
		case err != nil:
			return a, err
		case a.Status == client.Running:
			w.step(bootReady)
			return a, nil
		case a.Status == client.Errored:
			return a, fmt.Errorf("the agent %s was created and does not run: %s", a.ID, deref(a.LastError))
		case a.Status == client.Stopping, a.Status == client.Stopped:
			return a, refusedError("the agent %s was stopped before it ran", a.ID)
		default:
			w.look(ctx, a)
		}
		select {
		case <-ctx.Done():
			return a, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// bootStep is a step of an agent's start.
type bootStep int

const (
	bootPlaced bootStep = iota
	bootFiles
	bootBoot
	bootReady
)

var bootSteps = []string{"placed", "files", "booting", "ready"}

// bootWatch prints each step of a start once.
type bootWatch struct {
	t       *terminal
	api     *client.Client
	id      string
	began   time.Time
	next    bootStep // the first that is not printed yet
	waiting string   // the reason that was printed
}

// look prints what has happened since the last look.
func (w *bootWatch) look(ctx context.Context, a client.Agent) {
	if reason := deref(a.LastError); reason != "" && reason != w.waiting {
		w.waiting = reason
		w.t.progress("waiting   %s", reason)
	}
	if w.next > bootBoot {
		return
	}
	if s, err := w.api.AgentStatus(ctx, w.id); err == nil && s.Live {
		w.step(bootBoot) // the process runs, so that its files are there
		return
	}
	if w.next > bootPlaced {
		return
	}
	events, err := w.api.Audit(ctx, client.AuditQuery{Target: "agent/" + w.id, Action: "agent.placed", Limit: 1})
	if err == nil && len(events.Data) > 0 {
		w.step(bootPlaced)
	}
}

// step prints the steps up to s.
func (w *bootWatch) step(s bootStep) {
	for ; w.next <= s; w.next++ {
		w.t.progress("%-9s %.1f s", bootSteps[w.next], time.Since(w.began).Seconds())
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

type agentsUpdate struct {
	agentArg
	Name       string   `help:"New name."`
	Avatar     *string  `help:"Address of an image; empty for none."`
	Swarm      *string  `help:"Swarm to join: its name, slug or id; empty to leave it."`
	Secret     []string `help:"Secret to set in the same step, as for create, such as the key for a new baseUrl." sep:"none" placeholder:"KEY=-|@FILE|env:NAME"`
	Config     []string `help:"Config to merge: a file with JSON or YAML, JSON, or KEY=VALUE; null removes a key." sep:"none" placeholder:"FILE|KEY=VALUE"`
	ResetAfter bool     `name:"restart" help:"Restart the agent afterwards if the change needs it."`
}

// Run changes an agent.
func (c agentsUpdate) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	in, err := c.request(ctx, t, api)
	if err != nil {
		return err
	}
	u, err := api.UpdateAgent(ctx, id, in)
	if err != nil {
		return err
	}
	if u.NeedsRestart && c.ResetAfter {
		a, err := api.RestartAgent(ctx, id)
		if err != nil {
			return err
		}
		u.NeedsRestart, u.Status = false, a.Status
	}
	text := "updated " + u.ID
	if u.NeedsRestart {
		text += "; it needs a restart for this: agento agents restart " + u.ID
	}
	if u.NeedsKey {
		text += "; it has no key for the model that it now calls: agento agents secrets set " + u.ID
	}
	return t.print(u, text)
}

func (c agentsUpdate) request(ctx context.Context, t *terminal, api *client.Client) (in client.UpdateAgentRequest, err error) {
	input := &inputs{in: t.in}
	if in.Secrets, err = input.secrets(c.Secret); err != nil {
		return in, err
	}
	if in.Config, err = input.config(c.Config); err != nil {
		return in, err
	}
	if c.Name != "" {
		in.Name = client.Some(c.Name)
	}
	if c.Avatar != nil {
		in.AvatarURL = optional(*c.Avatar)
	}
	if c.Swarm != nil {
		in.SwarmID = optional(*c.Swarm)
		if *c.Swarm != "" {
			if in.SwarmID.Value, err = findSwarm(ctx, api, *c.Swarm); err != nil {
				return in, err
			}
		}
	}
	if !in.Name.Set && !in.AvatarURL.Set && !in.SwarmID.Set && len(in.Config) == 0 && len(in.Secrets) == 0 {
		return in, usageError("say what to change: --name, --avatar, --swarm, --config or --secret")
	}
	return in, nil
}

// optional returns a field that is null if the value is empty.
func optional(value string) client.Optional[string] {
	if value == "" {
		return client.Null[string]()
	}
	return client.Some(value)
}

// maxInput is how much a command reads of a file or of standard input for one value:
// more than the server takes.
const maxInput = 8 << 20

// inputs reads what a command line names. Standard input can be read once.
type inputs struct {
	in   *os.File
	read bool
}

// file returns the content of a file; - is standard input.
func (r *inputs) file(path string) (string, error) {
	if path == "-" {
		if r.read {
			return "", usageError("- is given twice, and standard input can be read once: put one of the texts into a file")
		}
		r.read = true
		return readLimited(r.in, "standard input")
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fileError(path, err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	return readLimited(f, path)
}

func readLimited(in io.Reader, name string) (string, error) {
	text, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	if len(text) > maxInput {
		return "", usageError("%s has more than %d MiB", name, maxInput>>20)
	}
	return string(text), nil
}

func fileError(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return notFoundError("there is no file %s", path)
	}
	return fmt.Errorf("read %s: %w", path, err)
}

// document returns the text of a document, or nothing without a path.
func (r *inputs) document(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return r.file(path)
}

// secretName is the form of the name of a secret.
var secretName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// variablePattern is the form of the name of an environment variable.
var variablePattern = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)

// secrets returns the secrets of flags such as KEY=env:NAME. A value itself is refused, and
// not repeated: other users can see the arguments of a command, and shells store them.
func (r *inputs) secrets(flags []string) (map[string]string, error) {
	if len(flags) == 0 {
		return nil, nil
	}
	secrets := make(map[string]string, len(flags))
	for _, f := range flags {
		name, where, ok := strings.Cut(f, "=")
		if !ok || !secretName.MatchString(name) { // what is no name may be the value
			return nil, usageError("write a secret as KEY=-, KEY=@FILE or KEY=env:NAME, such as anthropicApiKey=env:ANTHROPIC_API_KEY")
		}
		if _, twice := secrets[name]; twice {
			return nil, usageError("the secret %s is given twice", name)
		}
		value, err := r.secret(name, where)
		if err != nil {
			return nil, err
		}
		if value == "" {
			return nil, usageError("the secret %s is empty", name)
		}
		secrets[name] = value
	}
	return secrets, nil
}

func (r *inputs) secret(name, where string) (string, error) {
	path, isFile := strings.CutPrefix(where, "@")
	variable, isVariable := strings.CutPrefix(where, "env:")
	switch {
	case isVariable:
		value, ok := os.LookupEnv(variable)
		if !ok {
			return "", usageError("the environment variable %s, which has the secret %s, is not set", variable, name)
		}
		return value, nil
	case isFile:
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && variablePattern.MatchString(path) {
			return "", usageError("@%s is a file, and there is none of that name: for the environment variable %s write %s=env:%s", path, path, name, path)
		}
		text, err := r.file(path)
		return trimLine(text), err
	case where == "-":
		text, err := r.file("-")
		return trimLine(text), err
	}
	return "", usageError("the value of the secret %s is in the command line, where other users can see it and shells store it: write %s=- for standard input, %s=@FILE or %s=env:NAME", name, name, name, name)
}

// trimLine removes the line ending of a value.
func trimLine(s string) string { return strings.TrimSuffix(strings.TrimSuffix(s, "\n"), "\r") }

// config returns what the flags say together; later ones win.
func (r *inputs) config(flags []string) (map[string]any, error) {
	var config map[string]any
	for _, f := range flags {
		part, err := r.configPart(f)
		if err != nil {
			return nil, err
		}
		if config == nil {
			config = map[string]any{}
		}
		mergeConfig(config, part)
	}
	return config, nil
}

// keyPattern is the form of a key of the config, whose parts have dots between them.
var keyPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$`)

func (r *inputs) configPart(given string) (map[string]any, error) {
	if strings.HasPrefix(strings.TrimSpace(given), "{") {
		return parseConfig(given, "--config")
	}
	if key, value, ok := strings.Cut(given, "="); ok && keyPattern.MatchString(key) {
		return nestedConfig(strings.Split(key, "."), configValue(value)), nil
	}
	text, err := r.file(given)
	if err != nil {
		return nil, err
	}
	return parseConfig(text, given)
}

// configValue is the JSON value of a text, or the text itself.
func configValue(text string) any {
	if v, ok := decodeJSON(text); ok {
		return v
	}
	return text
}

// decodeJSON returns the only value of a text, with all digits of its numbers.
func decodeJSON(text string) (v any, ok bool) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		return nil, false
	}
	_, err := dec.Token()
	return v, errors.Is(err, io.EOF)
}

func nestedConfig(keys []string, value any) map[string]any {
	for i := len(keys) - 1; i > 0; i-- {
		value = map[string]any{keys[i]: value}
	}
	return map[string]any{keys[0]: value}
}

// mergeConfig puts what is in part into config, object by object.
func mergeConfig(config, part map[string]any) {
	for key, value := range maps.All(part) {
		into, ok := config[key].(map[string]any)
		from, both := value.(map[string]any)
		if ok && both {
			mergeConfig(into, from)
			continue
		}
		config[key] = value
	}
}

// parseConfig reads an object of JSON or YAML.
func parseConfig(text, name string) (map[string]any, error) {
	v, ok := decodeJSON(text)
	if !ok {
		if err := yaml.Unmarshal([]byte(text), &v); err != nil {
			return nil, usageError("%s is neither JSON nor YAML: %v", name, err)
		}
	}
	config, ok := v.(map[string]any)
	if !ok {
		return nil, usageError("%s must have one object, such as {\"model\": \"…\"}", name)
	}
	return config, nil
}
