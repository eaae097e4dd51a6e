package dashboard

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
)

// setupRoutes are the pages on which an agent is set up.
func (s *Server) setupRoutes() []route {
	return []route{
		page("GET /agents/{id}/secrets", has(access.AgentsRead), s.secrets),
		page("POST /agents/{id}/secrets", has(access.AgentsWrite), s.setSecret),
		page("POST /agents/{id}/secrets/{name}/delete", has(access.AgentsWrite), s.deleteSecret),
		page("GET /agents/{id}/channels", has(access.AgentsRead), s.channels),
		page("POST /agents/{id}/channels/{channel}", has(access.AgentsWrite), s.connectChannel),
		page("POST /agents/{id}/channels/{channel}/enable", has(access.AgentsWrite), s.enableChannel),
		page("POST /agents/{id}/channels/{channel}/disable", has(access.AgentsWrite), s.disableChannel),
		page("POST /agents/{id}/channels/{channel}/remove", has(access.AgentsWrite), s.removeChannel),
		page("GET /agents/{id}/network", has(access.AgentsRead), s.network),
		page("POST /agents/{id}/network", has(access.AgentsWrite), s.setEgress),
		page("POST /agents/{id}/network/allow", has(access.AgentsWrite), s.allowHost),
		page("GET /agents/{id}/settings", has(access.AgentsRead), s.settings),
		page("POST /agents/{id}/settings", has(access.AgentsWrite), s.saveSettings),
	}
}

// secretsPage is the data of the page of secrets.
type secretsPage struct {
	Set   []secretRow
	Names []choice
	Form  *form
}

// secretRow is a secret that is set. Its value is nowhere.
type secretRow struct {
	Name, Title, Origin string
	By                  string // empty: not known
	At                  *client.Time
}

// secretNames are the secrets that agento knows.
func secretNames() []choice {
	return append(providerKeys(), choice{"telegramBotToken", "Telegram bot token"}, choice{"slackBotToken", "Slack bot token"}, choice{"slackAppToken", "Slack app token"}, choice{"", "An environment variable of the agent"})
}

func secretTitle(name string) string {
	for _, c := range secretNames() {
		if c.Value == name && name != "" {
			return c.Title
		}
	}
	return name
}

func (s *Server) secrets(v *visit) error { return s.showSecrets(v, nil) }

func (s *Server) showSecrets(v *visit, f *form) error {
	a, err := v.API.Agent(v.Context(), v.Arg("id"))
	if err != nil {
		return err
	}
	all, err := v.API.AgentSecrets(v.Context(), a.ID)
	if err != nil {
		return err
	}
	changes, err := v.API.Audit(v.Context(), client.AuditQuery{Target: "agent/" + a.ID, Action: "agent.secrets_updated", Limit: 100})
	if err != nil {
		return err
	}
	names := authors(v)
	data := secretsPage{Names: secretNames(), Form: f}
	for _, name := range all.Secrets {
		row := secretRow{Name: name, Title: secretTitle(name), Origin: all.Origins[name]}
		for _, e := range changes.Data { // the newest first
			if set, _ := e.Data["set"].([]any); slices.Contains(set, any(name)) {
				row.By, row.At = cmp.Or(valueOf(e.ActorName), nameOf(names, e.Actor)), &e.At
				break
			}
		}
		data.Set = append(data.Set, row)
	}
	if f != nil {
		return v.RenderAgentRefused("secrets", a, "Secrets", data)
	}
	data.Form = newForm()
	return v.RenderAgent("secrets", a, "Secrets", data)
}

func (s *Server) setSecret(v *visit) error {
	f := v.Form()
	name, value := cmp.Or(f.Value("known"), f.Value("name")), f.Raw("value")
	f.Forget("value")
	if name == "" {
		f.Wrong("name", "Choose a secret, or name the variable.")
	}
	if value == "" {
		f.Wrong("value", "Type the secret.")
	}
	if !f.Valid() {
		return s.showSecrets(v, f)
	}
	done, err := v.API.SetSecrets(v.Context(), v.Arg("id"), client.SecretsRequest{Secrets: client.Secrets{name: value}})
	if err != nil {
		if f.Refused(err, map[string]string{"secrets." + name: "value", "secrets": "value"}) {
			return s.showSecrets(v, f)
		}
		return err
	}
	return v.Redirect(path("/agents/%s/secrets", v.Arg("id")), saved(done.NeedsRestart))
}

func (s *Server) deleteSecret(v *visit) error {
	done, err := v.API.SetSecrets(v.Context(), v.Arg("id"), client.SecretsRequest{DeleteSecrets: []string{v.Arg("name")}})
	if err != nil {
		return err
	}
	n := saved(done.NeedsRestart)
	n.Text = secretTitle(v.Arg("name")) + " was deleted. " + n.Text
	return v.Redirect(path("/agents/%s/secrets", v.Arg("id")), n)
}

// channelsPage is the data of the page of channels.
type channelsPage struct{ Channels []channelCard }

// channelCard is one channel, connected or not.
type channelCard struct {
	Name, Title string
	State       *client.Channel // nil: the agent has no token for it
	Word, Class string
	Steps       []string
	Fields      []channelField
	Form        *form
}

type channelField struct{ Name, Label, Placeholder string }

func channelCards() []channelCard {
	return []channelCard{
		{
			Name: "telegram", Title: "Telegram",
			Steps:  []string{"Open Telegram and write to @BotFather: /newbot. It asks for a name and a user name for the bot.", "BotFather answers with a token. Copy it, and paste it here.", "Write to your bot in Telegram. The state below changes to “connected”, and the agent answers."},
			Fields: []channelField{{"telegramBotToken", "Token of the bot", "123456789:AA…"}},
		},
		{
			Name: "slack", Title: "Slack",
			Steps:  []string{"Create an app at api.slack.com/apps, and switch Socket Mode on.", "Under Basic Information, make an app-level token with the scope connections:write: it begins with xapp-.", "Under OAuth & Permissions, add the bot scopes that the guide Channels names, install the app, and copy the bot token: it begins with xoxb-.", "If the agent may not connect to every host, allow those of Slack on the page Network."},
			Fields: []channelField{{"slackBotToken", "Bot token", "xoxb-…"}, {"slackAppToken", "App token", "xapp-…"}},
		},
	}
}

func (s *Server) channels(v *visit) error { return s.showChannels(v, "", nil) }

func (s *Server) showChannels(v *visit, refused string, f *form) error {
	a, err := v.API.Agent(v.Context(), v.Arg("id"))
	if err != nil {
		return err
	}
	data := channelsPage{Channels: channelCards()}
	for i := range data.Channels {
		c := &data.Channels[i]
		c.Form = newForm()
		if c.Name == refused {
			c.Form = f
		}
		if state, ok := a.Channels[c.Name]; ok {
			c.State = &state
			c.Word, c.Class = channelWord(state.Status)
		}
	}
	if f != nil {
		return v.RenderAgentRefused("channels", a, "Channels", data)
	}
	return v.RenderAgent("channels", a, "Channels", data)
}

func channelWord(status string) (word, class string) {
	switch status {
	case "connected":
		return status, "good"
	case "connecting":
		return status, "busy"
	case "error":
		return "not connected", "bad"
	case "stopped":
		return "the agent does not run", "off"
	case "disabled":
		return "switched off", "off"
	}
	return status, "off"
}

// channelOf returns the card that a request names. Faults: NotFound.
func channelOf(v *visit) (channelCard, error) {
	for _, c := range channelCards() {
		if c.Name == v.Arg("channel") {
			return c, nil
		}
	}
	return channelCard{}, errNoPage
}

func (s *Server) connectChannel(v *visit) error {
	c, err := channelOf(v)
	if err != nil {
		return err
	}
	f, tokens := v.Form(), client.Secrets{}
	for _, field := range c.Fields {
		if tokens[field.Name] = f.Value(field.Name); tokens[field.Name] == "" {
			f.Wrong(field.Name, "Paste the token.")
		}
		f.Forget(field.Name)
	}
	if !f.Valid() {
		return s.showChannels(v, c.Name, f)
	}
	done, err := v.API.SetSecrets(v.Context(), v.Arg("id"), client.SecretsRequest{Secrets: tokens})
	if err != nil {
		names := map[string]string{}
		for _, field := range c.Fields {
			names["secrets."+field.Name] = field.Name
		}
		if f.Refused(err, names) {
			return s.showChannels(v, c.Name, f)
		}
		return err
	}
	n := good("The token is stored. The state of " + c.Title + " is shown below as it changes.")
	if done.NeedsRestart {
		n = warn("The token is stored. Restart the agent, so that it connects to " + c.Title + ".")
	}
	return v.Redirect(path("/agents/%s/channels", v.Arg("id")), n)
}

func (s *Server) enableChannel(v *visit) error  { return s.switchChannel(v, true) }
func (s *Server) disableChannel(v *visit) error { return s.switchChannel(v, false) }

func (s *Server) switchChannel(v *visit, on bool) error {
	c, err := channelOf(v)
	if err != nil {
		return err
	}
	a, err := v.API.Agent(v.Context(), v.Arg("id"))
	if err != nil {
		return err
	}
	all, _ := a.Config["channels"].(map[string]any)
	if all == nil {
		all = map[string]any{}
	}
	if one, ok := all[c.Name].(map[string]any); ok {
		one["enabled"] = on
	} else {
		all[c.Name] = on
	}
	done, err := v.API.UpdateAgent(v.Context(), a.ID, client.UpdateAgentRequest{Config: map[string]any{"channels": all}})
	if err != nil {
		return err
	}
	return v.Redirect(path("/agents/%s/channels", a.ID), saved(done.NeedsRestart))
}

func (s *Server) removeChannel(v *visit) error {
	c, err := channelOf(v)
	if err != nil {
		return err
	}
	var names []string
	for _, field := range c.Fields {
		names = append(names, field.Name)
	}
	done, err := v.API.SetSecrets(v.Context(), v.Arg("id"), client.SecretsRequest{DeleteSecrets: names})
	if err != nil {
		return err
	}
	return v.Redirect(path("/agents/%s/channels", v.Arg("id")), saved(done.NeedsRestart))
}

// networkPage is the data of the page of the network.
type networkPage struct {
	Network  client.Network
	Policies []choice
	Form     *form
}

func (s *Server) network(v *visit) error { return s.showNetwork(v, nil) }

func (s *Server) showNetwork(v *visit, f *form) error {
	a, err := v.API.Agent(v.Context(), v.Arg("id"))
	if err != nil {
		return err
	}
	n, err := v.API.Network(v.Context(), a.ID)
	if err != nil {
		return err
	}
	data := networkPage{Network: n, Form: f, Policies: []choice{
		{"open", "Every public host"}, {"list", "The hosts of the list"}, {"model", "Only what its model and channels need"}, {"none", "Nothing but its model"},
	}}
	if f != nil {
		return v.RenderAgentRefused("network", a, "Network", data)
	}
	data.Form = newForm("egress", n.Egress)
	if n.Egress == "list" {
		data.Form.values.Set("hosts", strings.Join(n.Hosts, "\n"))
	}
	return v.RenderAgent("network", a, "Network", data)
}

func (s *Server) setEgress(v *visit) error {
	f := v.Form()
	var egress any = f.Value("egress")
	if egress == "list" {
		egress = strings.Fields(f.Value("hosts"))
	}
	if err := s.changeEgress(v, egress); err != nil {
		if f.Refused(err, map[string]string{"config.egress": "hosts"}) {
			return s.showNetwork(v, f)
		}
		return err
	}
	return v.Redirect(path("/agents/%s/network", v.Arg("id")), good("Saved. It holds for the next connection of the agent."))
}

func (s *Server) changeEgress(v *visit, egress any) error {
	_, err := v.API.UpdateAgent(v.Context(), v.Arg("id"), client.UpdateAgentRequest{Config: map[string]any{"egress": egress}})
	return err
}

// allowHost adds a host that was refused to what the agent may connect to.
func (s *Server) allowHost(v *visit) error {
	n, err := v.API.Network(v.Context(), v.Arg("id"))
	if err != nil {
		return err
	}
	host := v.Form().Value("host")
	back := path("/agents/%s/network", v.Arg("id"))
	if !slices.ContainsFunc(n.Refused, func(r client.RefusedDestination) bool { return r.Host == host && r.Reason == "policy" }) {
		return v.Redirect(back, warn("That host is not among those that the policy has refused."))
	}
	hosts := slices.Clone(n.Hosts)
	if !slices.Contains(hosts, host) {
		hosts = append(hosts, host)
	}
	if err := s.changeEgress(v, hosts); err != nil {
		message, _, ok := refusal(err)
		if !ok {
			return err
		}
		return v.Redirect(back, bad(message))
	}
	return v.Redirect(back, good(host+" is allowed from the agent's next connection on."))
}

// settingsPage is the data of the page of the settings.
type settingsPage struct {
	Form      *form
	Providers []choice
	Edits     []choice
	Swarms    []choice
	Others    []setting // keys of config that have no field here
}

type setting struct{ Name, Value string }

func (s *Server) settings(v *visit) error { return s.showSettings(v, nil) }

func (s *Server) showSettings(v *visit, f *form) error {
	a, err := v.API.Agent(v.Context(), v.Arg("id"))
	if err != nil {
		return err
	}
	data := settingsPage{
		Form: f, Providers: []choice{{"", "the first with a key"}, {"anthropic", "Anthropic"}, {"openai", "OpenAI"}, {"google", "Google"}},
		Edits: []choice{{"", "as it is by default"}, {"on", "they are taken over"}, {"review", "they wait for approval"}, {"off", "they are undone"}}, Swarms: []choice{{"", "none"}},
	}
	if v.Can(access.SwarmsRead) {
		all, err := v.API.ListSwarms(v.Context())
		if err != nil && !client.IsCode(err, "plan_limit") {
			return err
		}
		for _, one := range all {
			data.Swarms = append(data.Swarms, choice{one.ID, one.Name})
		}
	}
	known := settingFields()
	for name, value := range a.Config {
		if _, ok := known[name]; !ok && name != "egress" && name != "channels" && name != "keepAwake" && name != "sharedMode" {
			data.Others = append(data.Others, setting{name, fmt.Sprint(value)})
		}
	}
	slices.SortFunc(data.Others, func(x, y setting) int { return cmp.Compare(x.Name, y.Name) })
	if f != nil {
		return v.RenderAgentRefused("settings", a, "Settings", data)
	}
	data.Form = newForm("name", a.Name, "avatarUrl", valueOf(a.AvatarURL))
	if a.Swarm != nil {
		data.Form.values.Set("swarm", a.Swarm.ID)
	}
	for name := range known {
		if value, ok := a.Config[name]; ok {
			data.Form.values.Set(name, fmt.Sprint(value))
		}
	}
	for _, name := range []string{"keepAwake", "sharedMode"} {
		if on, _ := a.Config[name].(bool); on {
			data.Form.values.Set(name, "1")
		}
	}
	return v.RenderAgent("settings", a, "Settings", data)
}

// settingFields are the keys of config that have a field, and whether they are numbers.
func settingFields() map[string]bool {
	return map[string]bool{"llmProvider": false, "model": false, "baseUrl": false, "maxOutputTokens": true, "selfEdit": false}
}

func (s *Server) saveSettings(v *visit) error {
	f := v.Form()
	a, err := v.API.Agent(v.Context(), v.Arg("id"))
	if err != nil {
		return err
	}
	in := client.UpdateAgentRequest{Config: map[string]any{}}
	if name := f.Value("name"); name != a.Name {
		in.Name = client.Some(name)
	}
	if avatar := f.Value("avatarUrl"); avatar != valueOf(a.AvatarURL) {
		if in.AvatarURL = client.Some(avatar); avatar == "" {
			in.AvatarURL = client.Null[string]()
		}
	}
	if v.Can(access.SwarmsRead) {
		was := ""
		if a.Swarm != nil {
			was = a.Swarm.ID
		}
		if now := f.Value("swarm"); now != was {
			if in.SwarmID = client.Some(now); now == "" {
				in.SwarmID = client.Null[string]()
			}
		}
	}
	for name, isNumber := range settingFields() {
		was := ""
		if value, ok := a.Config[name]; ok {
			was = fmt.Sprint(value)
		}
		now := f.Value(name)
		switch {
		case now == was:
		case now == "":
			in.Config[name] = nil
		case isNumber:
			in.Config[name] = countOf(f, name)
		default:
			in.Config[name] = now
		}
	}
	for _, name := range []string{"keepAwake", "sharedMode"} {
		if was, _ := a.Config[name].(bool); was != f.Checked(name) {
			in.Config[name] = f.Checked(name)
		}
	}
	if !f.Valid() {
		return s.showSettings(v, f)
	}
	done, err := v.API.UpdateAgent(v.Context(), a.ID, in)
	if err != nil {
		names := map[string]string{"swarmId": "swarm"}
		for name := range settingFields() {
			names["config."+name] = name
		}
		if f.Refused(err, names) {
			return s.showSettings(v, f)
		}
		return err
	}
	n := saved(done.NeedsRestart)
	if done.NeedsKey {
		n = warn("Saved. The agent has no key that may be sent to where its model calls go now: set one on the page Secrets.")
	}
	return v.Redirect(path("/agents/%s/settings", a.ID), n)
}
