package attention

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/backup"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/skill"
	"agento.host/agento/internal/skill/scan"
	"agento.host/agento/internal/workspace"
)

// maxFound bounds how many items of one kind are looked for: nobody reads more.
const maxFound = 500

// agents returns what is wrong with agents, their keys, models and channels.
func (s *Service) agents(ctx context.Context, account identity.AccountID) ([]Item, error) {
	problems, err := s.Agents.Problems(ctx, account)
	if err != nil {
		return nil, err
	}
	all := make([]Item, len(problems))
	for i, p := range problems {
		all[i] = agentItem(p)
	}
	return all, nil
}

func agentItem(p agent.Problem) Item {
	item := Item{ID: "agent:" + string(p.ID), Kind: AgentFailed, Severity: Error, AgentID: p.ID, AgentName: p.Name, Sentence: p.Text, Since: p.Since}
	path := agentsPath + string(p.ID)
	switch p.Category {
	case agent.CategoryCredentials:
		item.Kind, item.Actions = Key, []Action{input("Set a key", http.MethodPut, path+"/secrets")}
	case agent.CategoryModel:
		item.Kind, item.Actions = Model, []Action{input("Change the model", http.MethodPatch, path)}
		if !p.Failed {
			item.Severity = Warning // the next call may succeed
		}
	case agent.CategoryConfig:
		item.Actions = []Action{input("Change the settings", http.MethodPatch, path)}
	case agent.CategoryCapacity:
		item.Kind, item.Severity = Capacity, Warning
		item.Actions = []Action{post("Stop the agent", path+"/stop")}
	case agent.CategoryChannel:
		item.ID += ":" + string(p.Channel)
		item.Kind, item.Subject = Channel, string(p.Channel)
		item.Actions = []Action{input("Set the token", http.MethodPut, path+"/secrets"), post("Restart the agent", path+"/restart")}
		return item
	case agent.CategoryRecord:
		return item // the operator's
	}
	if p.Failed {
		item.Actions = append(item.Actions, post("Start again", path+"/start"))
	}
	return item
}

// edits returns the edits of agents that wait for approval, the oldest first.
func (s *Service) edits(ctx context.Context, account identity.AccountID) ([]Item, error) {
	all, err := database.All(ctx, s.DB, scanEdit, `SELECT a.id, a.name, r.name, r.version, CASE WHEN typeof(d.created_at) = 'integer' THEN d.created_at ELSE 0 END
		FROM document_reviews r JOIN documents d USING (account_id, agent_id, name, version) JOIN agents a ON a.account_id = r.account_id AND a.id = r.agent_id
		WHERE r.account_id = $1 AND r.state = 'pending' AND typeof(r.version) = 'integer' AND a.desired_state <> 'deleted' ORDER BY d.created_at LIMIT $2`, account, maxFound)
	if err != nil {
		return nil, fmt.Errorf("list the edits that wait: %w", err)
	}
	return all, nil
}

func scanEdit(r database.Row) (Item, error) {
	var version, at int64
	item := Item{Kind: Edit, Severity: Review}
	if err := r.Scan(&item.AgentID, &item.AgentName, &item.Subject, &version, &at); err != nil {
		return item, err
	}
	item.ID = fmt.Sprintf("edit:%s:%s:%d", item.AgentID, item.Subject, version)
	item.Sentence = fmt.Sprintf("The agent has changed its %s. Approve the change, or reject it.", item.Subject)
	item.Since = sinceOf(at)
	path := fmt.Sprintf("%s%s/%s/versions/%d", agentsPath, item.AgentID, documentPath(workspace.Document(item.Subject)), version)
	item.Actions = []Action{post("Approve", path+"/approve"), post("Reject", path+"/reject")}
	return item, nil
}

// sinceOf returns the zero time for one that is not known.
func sinceOf(ms int64) time.Time {
	if ms <= 0 {
		return time.Time{}
	}
	return database.Time(ms)
}

// documentPath returns the part of the API's paths that names a document.
func documentPath(d workspace.Document) string {
	switch d {
	case workspace.Soul:
		return "personality"
	case workspace.Identity:
		return "identity"
	case workspace.Workflow:
		return "workflow"
	}
	return "rules/" + url.PathEscape(d.Rule())
}

// nearLimits: limits are near from these shares on, in percent. Each is told once, if it is dismissed.
var nearLimits = []int64{100, 95, 90}

// smallLimit is the largest number of agents that is no news to have all of.
const smallLimit = 9

// limits returns the limits of the account's plan that are near.
func (s *Service) limits(ctx context.Context, account identity.AccountID) ([]Item, error) {
	plan, err := s.Access.PlanOf(ctx, s.DB, account)
	if err != nil {
		return nil, err
	}
	agents, _, err := s.Agents.Usage(ctx, account)
	if err != nil {
		return nil, err
	}
	stored, err := s.Access.StoredBytes(ctx, account)
	if err != nil {
		return nil, err
	}
	var all []Item
	if limit := int64(plan.Limits.MaxAgents); limit > smallLimit && limit < access.Unlimited {
		if share := nearLimit(int64(agents), limit); share > 0 {
			all = append(all, limitItem("agents", share, fmt.Sprintf("The account has %d of the %d agents that its plan %s allows. Delete agents that are not needed, or ask the operator for another plan.", agents, limit, plan.Name)))
		}
	}
	if limit := plan.Limits.StorageBytes; limit > 0 && limit < access.UnlimitedBytes {
		if share := nearLimit(stored, limit); share > 0 {
			all = append(all, limitItem("bytes", share, fmt.Sprintf("The account has stored %s of the %s that its plan %s allows. Delete knowledge or agents, or ask the operator for another plan.", bytesText(stored), bytesText(limit), plan.Name)))
		}
	}
	return all, nil
}

// nearLimit returns the largest of nearLimits that is reached; 0: none.
func nearLimit(n, limit int64) int64 {
	for _, share := range nearLimits {
		if n >= limit/100*share+limit%100*share/100 {
			return share
		}
	}
	return 0
}

func limitItem(name string, share int64, sentence string) Item {
	item := Item{ID: fmt.Sprintf("plan:%s:%d", name, share), Kind: PlanLimit, Severity: Warning, Subject: name, Sentence: sentence}
	if share >= 100 {
		item.Severity = Error
	}
	return item.dismissible()
}

func bytesText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d bytes", n)
}

// skills returns the installed skills whose score shows findings: without any, a skill that can
// do something has the score scan.MaxScore.
func (s *Service) skills(ctx context.Context, account identity.AccountID) ([]Item, error) {
	all, err := database.All(ctx, s.DB, scanSkill, `SELECT a.id, a.name, k.id, k.skill_id, k.name, k.version, k.score, CASE WHEN typeof(k.updated_at) = 'integer' THEN k.updated_at ELSE 0 END
		FROM agent_skills k JOIN agents a ON a.account_id = k.account_id AND a.id = k.agent_id
		WHERE k.account_id = $1 AND k.score < $2 AND typeof(k.score) = 'integer' AND k.is_enabled AND a.desired_state <> 'deleted' ORDER BY k.score, k.id LIMIT $3`, account, scan.MaxScore, maxFound)
	if err != nil {
		return nil, fmt.Errorf("list skills with findings: %w", err)
	}
	return all, nil
}

func scanSkill(r database.Row) (Item, error) {
	var id, skillID, name, version string
	var score, at int64
	item := Item{Kind: Skill, Severity: Review}
	if err := r.Scan(&item.AgentID, &item.AgentName, &id, &skillID, &name, &version, &score, &at); err != nil {
		return item, err
	}
	item.ID = fmt.Sprintf("skill:%s:%s", id, version)
	item.Subject = skillID
	item.Sentence = fmt.Sprintf("The skill %s, version %s, has findings: its security score is %d of 100. Read them, and uninstall the skill if you do not trust it.", strings.TrimSpace(name), version, score)
	item.Since = sinceOf(at)
	item.Actions = []Action{{Name: "Uninstall", Method: http.MethodDelete, Path: agentsPath + string(item.AgentID) + "/skills/" + id}}
	return item.dismissible(), nil
}

// updates returns the skills of which there is a later version.
func (s *Service) updates(ctx context.Context, account identity.AccountID) ([]Item, error) {
	found, err := s.Skills.Updates(ctx, account, maxFound)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	ids := make([]identity.AgentID, len(found))
	for i, u := range found {
		ids[i] = u.Agent
	}
	names, err := s.Agents.Names(ctx, account, ids)
	if err != nil {
		return nil, err
	}
	var all []Item
	for _, u := range found {
		if name, ok := names[u.Agent]; ok {
			all = append(all, updateItem(u, name))
		}
	}
	return all, nil
}

func updateItem(u skill.Update, agentName string) Item {
	return Item{
		ID: fmt.Sprintf("update:%s:%s", u.ID, u.Latest), Kind: Skill, Severity: Review, AgentID: u.Agent, AgentName: agentName, Subject: u.SkillID,
		Sentence: fmt.Sprintf("The skill %s has a later version: %s, in place of %s. Read what the scan finds in it, then update.", strings.TrimSpace(u.Name), u.Latest, u.Version),
		Actions:  []Action{input("Update", http.MethodPatch, agentsPath+string(u.Agent)+"/skills/"+u.ID)},
	}.dismissible()
}

func backupItem(newest, good backup.Result) Item {
	item := Item{ID: "backup:" + newest.ID, Kind: Backup, Severity: Error, Subject: newest.Destination, Since: newest.Ended}
	ended := "is " + newest.State
	if newest.State == "failed" {
		ended = "has failed"
	}
	last := "There is no good one."
	if good.ID != "" {
		last = "The last good one is of " + good.Ended.UTC().Format("2006-01-02 15:04 UTC") + "."
	}
	item.Sentence = fmt.Sprintf("The last backup %s: %s. %s", ended, strings.TrimSuffix(newest.Problem, "."), last)
	return item
}

func quarantineItem(n int) Item {
	what := "Files of an agent that the database does not know are"
	if n > 1 {
		what = fmt.Sprintf("Files of %d agents that the database does not know are", n)
	}
	return Item{ID: "quarantine", Kind: Quarantine, Severity: Review, Sentence: what + " in quarantine. agento doctor says how to get them back; agento gc deletes them."}
}
