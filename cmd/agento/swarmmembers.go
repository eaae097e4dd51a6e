package main

import (
	"context"
	"fmt"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
)

type swarmsMembers struct {
	List   swarmsMembersList   `cmd:"" help:"List the people of a swarm."`
	Add    swarmsMembersAdd    `cmd:"" help:"Add a person of the account to a swarm."`
	Remove swarmsMembersRemove `cmd:"" help:"Remove a person from a swarm."`
}

type swarmsMembersList struct{ swarmArg }

// Run lists the people.
func (c swarmsMembersList) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.swarm(ctx)
	if err != nil {
		return err
	}
	found, err := api.ListSwarmMembers(ctx, id)
	if err != nil {
		return err
	}
	return printSwarmMembers(t, found.Data)
}

func printSwarmMembers(t *terminal, all []client.SwarmMember) error {
	if t.json {
		return t.printJSON(all)
	}
	rows := make([]map[string]any, len(all))
	for i, m := range all {
		rows[i] = map[string]any{"email": m.Email, "role": m.Role, "addedAt": formatTime(m.AddedAt.Time), "id": m.ID}
	}
	return t.table(rows, "id", "email", "role", "addedAt")
}

type swarmsMembersAdd struct {
	swarmArg
	User string `arg:"" help:"E-mail address or id of the person. An address needs the scope account:admin."`
}

// Run adds the person.
func (c swarmsMembersAdd) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.swarm(ctx)
	if err != nil {
		return err
	}
	person, err := findMember(ctx, api, c.User)
	if err != nil {
		return err
	}
	all, err := api.AddSwarmMember(ctx, id, client.AddSwarmMemberRequest{UserID: person})
	if err != nil {
		return err
	}
	return printSwarmMembers(t, all.Data)
}

type swarmsMembersRemove struct {
	swarmArg
	User string `arg:"" help:"E-mail address or id of the person."`
}

// Run removes the person.
func (c swarmsMembersRemove) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.swarm(ctx)
	if err != nil {
		return err
	}
	found, err := api.ListSwarmMembers(ctx, id)
	if err != nil {
		return err
	}
	person := c.User
	for _, m := range found.Data {
		if m.Email == c.User {
			person = m.ID
		}
	}
	done, err := api.RemoveSwarmMember(ctx, id, person)
	if err != nil {
		return err
	}
	return t.print(done, fmt.Sprintf("removed %s from the swarm", c.User))
}

// findMember returns the id of a person of the account.
func findMember(ctx context.Context, c *client.Client, given string) (string, error) {
	all, err := c.ListMembers(ctx)
	if client.IsCode(err, string(fault.Forbidden)) {
		return given, nil // the server says whether it is an id
	}
	if err != nil {
		return "", err
	}
	candidates := make([]candidate, len(all.Data))
	for i, m := range all.Data {
		candidates[i] = candidate{m.ID, []string{m.Email}}
	}
	return resolve("member", "users list", given, candidates)
}
