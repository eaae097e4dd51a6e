package dashboard

import (
	"fmt"
	"slices"
	"strings"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/fault"
)

// swarmRoutes are the pages of swarms.
func (s *Server) swarmRoutes() []route {
	return []route{
		page("GET /swarms", has(access.SwarmsRead), s.swarmList),
		page("POST /swarms", has(access.SwarmsWrite), s.createSwarm),
		page("GET /swarms/{id}", has(access.SwarmsRead), s.swarm),
		page("POST /swarms/{id}", has(access.SwarmsWrite), s.updateSwarm),
		page("POST /swarms/{id}/delete", has(access.SwarmsWrite), s.deleteSwarm),
		page("POST /swarms/{id}/agents", has(access.AgentsWrite), s.addToSwarm),
		page("POST /swarms/{id}/agents/{agent}/remove", has(access.AgentsWrite), s.removeFromSwarm),
		page("POST /swarms/{id}/members", has(access.SwarmsWrite), s.addSwarmMember),
		page("POST /swarms/{id}/members/{member}/remove", has(access.SwarmsWrite), s.removeSwarmMember),
		page("POST /swarms/{id}/secrets", has(access.SwarmsWrite), s.setSwarmSecret),
		page("POST /swarms/{id}/secrets/{name}/delete", has(access.SwarmsWrite), s.deleteSwarmSecret),
	}
}

// swarmsPage is the data of the list of swarms.
type swarmsPage struct {
	Swarms []client.Swarm
	Form   *form
}

func (s *Server) swarmList(v *visit) error { return s.showSwarms(v, newForm()) }

func (s *Server) showSwarms(v *visit, f *form) error {
	all, err := v.API.ListSwarms(v.Context())
	if err != nil {
		return err
	}
	p := swarmsPage{all, f}
	if !f.Valid() {
		return v.RenderRefused("swarms", "Swarms", p)
	}
	return v.Render("swarms", "Swarms", p)
}

func (s *Server) createSwarm(v *visit) error {
	f := v.Form()
	w, err := v.API.CreateSwarm(v.Context(), client.CreateSwarmRequest{Name: f.Value("name"), Description: f.Value("description"), Icon: f.Value("icon")})
	if err != nil {
		if f.Refused(err) {
			return s.showSwarms(v, f)
		}
		return err
	}
	return v.Redirect(path("/swarms/%s", w.ID), good(w.Name+" was created. Put agents in it."))
}

// swarmPage is the data of the page of a swarm.
type swarmPage struct {
	Swarm     client.SwarmDetails
	Others    []client.AgentSummary // that could be put into it
	Knowledge client.KnowledgeBase
	Members   []client.SwarmMember
	People    []client.Member // of the account, who are not members
	Secrets   []sharedSecret
	Providers []choice
	Form      *form // of the secret
	Edit      *form
	Deletes   string // what a deletion does
}

// sharedSecret is a credential that a swarm shares.
type sharedSecret struct{ Name, Title, Origin string }

// providerKeys are the credentials that swarms share.
func providerKeys() []choice {
	return []choice{{"anthropicApiKey", "Anthropic"}, {"openaiApiKey", "OpenAI"}, {"googleApiKey", "Google"}}
}

func providerTitle(name string) string {
	for _, p := range providerKeys() {
		if p.Value == name {
			return p.Title
		}
	}
	return name
}

func (s *Server) swarm(v *visit) error { return s.showSwarm(v, newForm(), nil) }

// showSwarm shows the page of a swarm, with forms that were refused.
func (s *Server) showSwarm(v *visit, secret, edit *form) error {
	w, err := v.API.Swarm(v.Context(), v.Arg("id"))
	if err != nil {
		return err
	}
	p := swarmPage{Swarm: w, Providers: providerKeys(), Form: secret, Edit: edit}
	refused := edit != nil || !secret.Valid()
	if edit == nil {
		p.Edit = newForm("name", w.Name, "description", valueOf(w.Description), "icon", valueOf(w.Icon))
	}
	secrets, err := v.API.SwarmSecrets(v.Context(), w.ID)
	if err != nil {
		return err
	}
	for _, name := range secrets.Secrets {
		p.Secrets = append(p.Secrets, sharedSecret{name, providerTitle(name), secrets.Origins[name]})
	}
	members, err := v.API.ListSwarmMembers(v.Context(), w.ID)
	if err != nil {
		return err
	}
	p.Members = members.Data
	if v.Can(access.SwarmsWrite) {
		if p.People, err = peopleOutside(v, p.Members); err != nil {
			return err
		}
	}
	if v.Can(access.KnowledgeRead) {
		if p.Knowledge, err = s.sizeOf(v, owner{Target: client.KnowledgeTarget{SwarmID: w.ID}}); err != nil {
			return err
		}
	}
	if v.Can(access.AgentsWrite) {
		if p.Others, err = s.agentsOutside(v, w.ID); err != nil {
			return err
		}
	}
	p.Deletes = deletesText(p)
	if refused {
		return v.RenderRefused("swarm", w.Name, p)
	}
	return v.Render("swarm", w.Name, p)
}

// agentsOutside returns agents that are not in a swarm, by name: as many as a list has.
func (s *Server) agentsOutside(v *visit, swarm string) ([]client.AgentSummary, error) {
	found, err := v.API.ListAgents(v.Context(), client.AgentQuery{Sort: "name", Limit: maxOptions})
	return slices.DeleteFunc(found.Data, func(a client.AgentSummary) bool { return a.Swarm != nil && a.Swarm.ID == swarm }), err
}

// peopleOutside returns the people of the account who are not members of a swarm, if the
// person may see them.
func peopleOutside(v *visit, members []client.SwarmMember) ([]client.Member, error) {
	all, err := v.API.ListMembers(v.Context())
	if isForbidden(err) {
		return nil, nil
	}
	return slices.DeleteFunc(all.Data, func(m client.Member) bool {
		return slices.ContainsFunc(members, func(one client.SwarmMember) bool { return one.ID == m.ID })
	}), err
}

func (s *Server) addSwarmMember(v *visit) error {
	id := v.Form().Value("person")
	if id == "" {
		return fault.New(fault.Invalid, "Choose a person.")
	}
	if _, err := v.API.AddSwarmMember(v.Context(), v.Arg("id"), client.AddSwarmMemberRequest{UserID: id}); err != nil {
		return err
	}
	return v.Redirect(path("/swarms/%s", v.Arg("id")), good("The person was added."))
}

func (s *Server) removeSwarmMember(v *visit) error {
	if _, err := v.API.RemoveSwarmMember(v.Context(), v.Arg("id"), v.Arg("member")); err != nil {
		return err
	}
	return v.Redirect(path("/swarms/%s", v.Arg("id")), good("The person was removed from the swarm, and stays in the account."))
}

// deletesText says what the deletion of a swarm does.
func deletesText(p swarmPage) string {
	text := "The swarm is removed. "
	switch n := len(p.Swarm.Agents); {
	case n == 0 && p.Knowledge.Entries > 0:
		text += fmt.Sprintf("No agent is in it, so its %s are kept under its id, and no agent finds them. ", count(p.Knowledge.Entries, "entry", "entries"))
	case n > 0:
		text += fmt.Sprintf("Its %s stay, and each gets a copy of its knowledge (%s). ", count(n, "agent", "agents"), count(p.Knowledge.Entries, "entry", "entries"))
	}
	if len(p.Secrets) > 0 {
		text += fmt.Sprintf("%s that it shares are deleted: agents that have no key of their own cannot call their model any more. ", count(len(p.Secrets), "key", "keys"))
	}
	return text + "This cannot be undone."
}

func (s *Server) updateSwarm(v *visit) error {
	f := v.Form()
	optional := func(name string) client.Optional[string] {
		return client.Optional[string]{Set: true, Null: f.Value(name) == "", Value: f.Value(name)}
	}
	in := client.UpdateSwarmRequest{Name: client.Optional[string]{Set: true, Value: f.Value("name")}, Description: optional("description"), Icon: optional("icon")}
	if _, err := v.API.UpdateSwarm(v.Context(), v.Arg("id"), in); err != nil {
		if f.Refused(err) {
			return s.showSwarm(v, newForm(), f)
		}
		return err
	}
	return v.Redirect(path("/swarms/%s", v.Arg("id")), good("Saved."))
}

func (s *Server) deleteSwarm(v *visit) error {
	if _, err := v.API.DeleteSwarm(v.Context(), v.Arg("id")); err != nil {
		return err
	}
	return v.Redirect("/swarms", good("The swarm was deleted. Its agents stay."))
}

// moveAgent puts an agent into a swarm or, with an empty id, takes it out.
func (v *visit) moveAgent(agent, swarm string) (client.UpdatedAgent, error) {
	return v.API.UpdateAgent(v.Context(), agent, client.UpdateAgentRequest{SwarmID: client.Optional[string]{Set: true, Null: swarm == "", Value: swarm}})
}

func (s *Server) addToSwarm(v *visit) error {
	id := v.Form().Value("agent")
	if id == "" {
		return fault.New(fault.Invalid, "Choose an agent.")
	}
	a, err := v.moveAgent(id, v.Arg("id"))
	if err != nil {
		return err
	}
	text := a.Name + " is in the swarm now, and searches its knowledge."
	if a.NeedsRestart {
		text += " Restart it to use the keys of the swarm."
	}
	return v.Redirect(path("/swarms/%s", v.Arg("id")), good(text))
}

func (s *Server) removeFromSwarm(v *visit) error {
	a, err := v.moveAgent(v.Arg("agent"), "")
	if err != nil {
		return err
	}
	n := good(a.Name + " is not in the swarm any more.")
	if a.NeedsKey {
		n = warn(a.Name + " is not in the swarm any more, and has no key of its own: set one on its tab Secrets.")
	}
	return v.Redirect(path("/swarms/%s", v.Arg("id")), n)
}

func (s *Server) setSwarmSecret(v *visit) error {
	f := v.Form()
	name, value := f.Value("provider"), f.Value("key")
	defer f.Forget("key")
	if value == "" {
		f.Wrong("key", "Paste the key.")
		return s.showSwarm(v, f, nil)
	}
	_, err := v.API.SetSwarmSecrets(v.Context(), v.Arg("id"), client.SwarmSecretsRequest{Secrets: map[string]string{name: value}, BaseURL: f.Value("baseUrl")})
	if err != nil {
		f.Forget("key")
		if f.Refused(err, map[string]string{"secrets." + name: "key"}) {
			f.Error = strings.ReplaceAll(f.Error, value, "…")
			return s.showSwarm(v, f, nil)
		}
		return err
	}
	return v.Redirect(path("/swarms/%s", v.Arg("id")), good("The key for "+providerTitle(name)+" is set. Agents use it from their next model call on."))
}

func (s *Server) deleteSwarmSecret(v *visit) error {
	if _, err := v.API.SetSwarmSecrets(v.Context(), v.Arg("id"), client.SwarmSecretsRequest{DeleteSecrets: []string{v.Arg("name")}}); err != nil {
		return err
	}
	return v.Redirect(path("/swarms/%s", v.Arg("id")), good("The key for "+providerTitle(v.Arg("name"))+" was deleted."))
}
