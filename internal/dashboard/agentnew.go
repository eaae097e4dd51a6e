package dashboard

import (
	"cmp"
	"context"
	"strings"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
)

// newAgentPage is the data of the form that creates an agent.
type newAgentPage struct {
	Form      *form
	Starters  []client.Starter
	Swarms    []choice // empty: the account has none, or the person may not see them
	Providers []choice
	Regions   []choice
	Check     *client.ProviderCheck // of the key that was sent; nil: none
	Models    []string              // that the provider lists
}

// providers are the model providers, and the secret that each one's key is.
func providers() []struct{ Name, Title, Secret string } {
	return []struct{ Name, Title, Secret string }{
		{"anthropic", "Anthropic", "anthropicApiKey"}, {"openai", "OpenAI", "openaiApiKey"}, {"google", "Google", "googleApiKey"},
	}
}

func (s *Server) newAgent(v *visit) error {
	return s.showNewAgent(v, newForm("region", "eu", "provider", "anthropic", "starter", v.starter(), "swarm", v.Query("swarm")), nil)
}

func (v *visit) starter() string {
	if name := v.Query("starter"); name != "" {
		return name
	}
	return "blank"
}

func (s *Server) showNewAgent(v *visit, f *form, check *client.ProviderCheck) error {
	data := newAgentPage{Form: f, Check: check}
	var err error
	if data.Regions, err = s.regionChoices(v.Context()); err != nil {
		return err
	}
	if data.Starters, err = v.API.Starters(v.Context()); err != nil {
		return err
	}
	if v.Can(access.SwarmsRead) {
		swarms, err := v.API.ListSwarms(v.Context())
		if err != nil && !client.IsCode(err, "plan_limit") {
			return err
		}
		for _, one := range swarms {
			data.Swarms = append(data.Swarms, choice{one.ID, one.Name})
		}
	}
	for _, p := range providers() {
		data.Providers = append(data.Providers, choice{p.Name, p.Title})
	}
	if check != nil {
		data.Models = check.Models
	}
	if check != nil || f.Error != "" || !f.Valid() {
		return v.RenderRefused("agentnew", "New agent", data)
	}
	return v.Render("agentnew", "New agent", data)
}

// regionChoices returns the regions that an agent can be in. Those that only servers have go by their
// names.
func (s *Server) regionChoices(ctx context.Context) ([]choice, error) {
	known := []string{"eu", "us"}
	if s.regions != nil {
		var err error
		if known, err = s.regions(ctx); err != nil {
			return nil, err
		}
	}
	titles := map[string]string{"eu": "Europe", "us": "United States"}
	var all []choice
	for _, name := range known {
		all = append(all, choice{name, cmp.Or(titles[name], name)})
	}
	return all, nil
}

// createAgent checks the key, and creates the agent if the provider takes it.
func (s *Server) createAgent(v *visit) error {
	f := v.Form()
	key := strings.TrimSpace(f.Raw("key"))
	if f.Value("name") == "" {
		f.Wrong("name", "Give the agent a name.")
	}
	if key == "" && f.Value("swarm") == "" {
		f.Wrong("key", "The agent needs a key of its model provider, unless it joins a swarm that has one.")
	}
	if !f.Valid() {
		return s.showNewAgent(v, f, nil)
	}
	if key != "" && !f.Checked("unchecked") {
		check, err := v.API.CheckProvider(v.Context(), client.ProviderCheckRequest{Provider: f.Value("provider"), Key: key, BaseURL: f.Value("baseUrl")})
		if f.Refused(err, map[string]string{"provider": "provider", "key": "key", "baseUrl": "baseUrl"}) {
			return s.showNewAgent(v, f, nil)
		}
		if err != nil {
			return err
		}
		if !check.OK || f.Value("do") == "check" {
			return s.showNewAgent(v, f, &check)
		}
	}
	created, err := v.API.BeginAgent(v.Context(), newAgentRequest(f, key))
	if f.Refused(err, map[string]string{"config.model": "model", "config.baseUrl": "baseUrl", "config.llmProvider": "provider", "secrets": "key", "swarmId": "swarm", "region": "region"}) {
		return s.showNewAgent(v, f, nil)
	}
	if err != nil {
		return err
	}
	return v.Redirect(path("/agents/%s", created.ID), silent())
}

func newAgentRequest(f *form, key string) client.CreateAgentRequest {
	in := client.CreateAgentRequest{Name: f.Value("name"), Region: f.Value("region"), SwarmID: f.Value("swarm"), Starter: f.Value("starter"), Config: map[string]any{}}
	for _, p := range providers() {
		if p.Name == f.Value("provider") && key != "" {
			in.Config["llmProvider"] = p.Name
			in.Secrets = client.Secrets{p.Secret: key}
		}
	}
	if model := f.Value("model"); model != "" {
		in.Config["model"] = model
	}
	if address := f.Value("baseUrl"); address != "" {
		in.Config["baseUrl"] = address
	}
	return in
}
