package dashboard

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/fault"
)

// skillRoutes are the pages of the marketplace and of the skills of an agent. A skill is named
// in the query, because ids of the registry have slashes.
func (s *Server) skillRoutes() []route {
	return []route{
		page("GET /skills", has(access.Skills), s.marketplace),
		page("GET /skills/show", has(access.Skills), s.showSkill),
		page("GET /skills/upload", has(access.Skills), s.uploadForm),
		page("POST /skills/upload", has(access.Skills), s.uploadSkill),
		page("POST /skills/install", has(access.Skills), s.installSkill),
		page("POST /skills/delete", has(access.Skills), s.deleteSkill),
		page("GET /agents/{id}/skills", has(access.Skills), s.agentSkills),
		page("POST /agents/{id}/skills", has(access.Skills), s.importSkill),
		page("POST /agents/{id}/skills/{skill}", has(access.Skills), s.changeSkill),
		page("POST /agents/{id}/skills/{skill}/uninstall", has(access.Skills), s.uninstallSkill),
	}
}

// skillsPerPage keeps the page below 100 KB.
const skillsPerPage = 24

// marketPage is the data of the marketplace.
type marketPage struct {
	Trust   string
	Tabs    []choice
	Skills  []client.Skill
	Pages   pager
	Problem string // why there is no list
	Agent   string // for which a skill is looked for
}

// trusts are the places that skills come from.
func trusts() []choice {
	return []choice{{"verified", "Verified"}, {"custom", "Your own"}, {"clawhub", "Community"}}
}

func (s *Server) marketplace(v *visit) error {
	p := marketPage{Trust: trustOf(v.Query("trust")), Tabs: trusts(), Pages: v.page(skillsPerPage), Agent: v.Query("agent")}
	search := strings.TrimSpace(v.Query("search"))
	if p.Trust == "clawhub" && search == "" {
		return v.Render("skills", "Skills", p)
	}
	found, err := v.API.ListSkills(v.Context(), client.SkillQuery{Search: search, Category: v.Query("category"), TrustLevel: p.Trust, Page: p.Pages.Page, PageSize: p.Pages.Size})
	if message, _, ok := refusal(err); ok {
		p.Problem = message
	} else if err != nil && !client.IsCode(err, "not_found") {
		return err
	} else if err != nil {
		p.Problem = problemOf(err).Message
	}
	p.Skills, p.Pages.Total = found.Data, found.Pagination.Total
	return v.Render("skills", "Skills", p)
}

func trustOf(text string) string {
	if slices.ContainsFunc(trusts(), func(c choice) bool { return c.Value == text }) {
		return text
	}
	return "verified"
}

// skillPage is the data of the page of a skill.
type skillPage struct {
	Skill  client.SkillDetails
	Agents []client.AgentSummary
	Agent  string
	Counts []choice // of findings, by severity
	Form   *form
}

func (s *Server) showSkill(v *visit) error {
	return s.showSkillOf(v, v.Query("id"), v.Query("trust"), newForm("agent", v.Query("agent")))
}

func (s *Server) showSkillOf(v *visit, id, trust string, f *form) error {
	if id == "" {
		return fault.New(fault.NotFound, "There is no such skill.")
	}
	skill, err := v.API.Skill(v.Context(), id, trust)
	if err != nil {
		return err
	}
	p := skillPage{Skill: skill, Form: f, Agent: f.Value("agent"), Counts: countFindings(skill.Findings)}
	if v.Can(access.AgentsRead) {
		agents, err := v.API.ListAgents(v.Context(), client.AgentQuery{Sort: "name", Limit: maxOptions})
		if err != nil {
			return err
		}
		p.Agents = agents.Data
	}
	if !f.Valid() {
		return v.RenderRefused("skill", skill.Name, p)
	}
	return v.Render("skill", skill.Name, p)
}

// maxOptions is how many options a list to choose from has.
const maxOptions = 100

// scoreClass returns the class of the badge of a score. At most 60 has what can make an agent
// run, read or send something; below 50 a skill is not installed, unless the operator allows it.
func scoreClass(score any) string {
	n := 0
	switch s := score.(type) {
	case int:
		n = s
	case *int:
		n = *s
	}
	switch {
	case n > 60:
		return "good"
	case n >= 50:
		return "warn"
	}
	return "bad"
}

// severities are those of findings, the most severe first, in words.
func severities() []choice {
	return []choice{
		{"critical", "dangerous"}, {"high", "risky"}, {"medium", "worth a look"}, {"low", "minor"}, {"info", "for information"},
	}
}

// severityText returns a severity in words and the class of its badge.
func severityText(severity string) state {
	word := severity
	for _, s := range severities() {
		if s.Value == severity {
			word = s.Title
		}
	}
	switch severity {
	case "critical", "high":
		return state{word, "bad"}
	case "medium":
		return state{word, "warn"}
	}
	return state{word, "off"}
}

func countFindings(all []client.SkillFinding) []choice {
	var counts []choice
	for _, s := range severities() {
		n := 0
		for _, f := range all {
			if f.Severity == s.Value {
				n++
			}
		}
		if n > 0 {
			counts = append(counts, choice{s.Value, fmt.Sprintf("%d %s", n, s.Title)})
		}
	}
	return counts
}

// installSkill installs a skill on the agent that the form names.
func (s *Server) installSkill(v *visit) error {
	f := v.Form()
	agent := f.Value("agent")
	if agent == "" {
		f.Wrong("agent", "Choose an agent.")
		return s.showSkillOf(v, f.Value("id"), f.Value("trust"), f)
	}
	done, err := v.API.InstallSkill(v.Context(), agent, client.InstallSkillRequest{SkillID: f.Value("id"), TrustLevel: f.Value("trust")})
	if err != nil {
		if f.Refused(err) {
			return s.showSkillOf(v, f.Value("id"), f.Value("trust"), f)
		}
		return err
	}
	return v.Redirect(path("/agents/%s/skills", agent), changedSkill(done, "is installed"))
}

// changedSkill says what became of a skill, and what is left to do.
func changedSkill(c client.ChangedSkill, what string) notice {
	text := fmt.Sprintf("%s %s %s.", c.Name, c.InstalledVersion, what)
	if c.NeedsRestart {
		text += " Restart the agent to use the change."
	} else {
		text += " The agent's next turn uses the change."
	}
	if len(c.HostsToAdd) == 0 {
		return good(text)
	}
	return warn(text + " It also needs hosts that the agent may not connect to: " + strings.Join(c.HostsToAdd, ", ") + ". They can be allowed on the tab Network.")
}

func (s *Server) deleteSkill(v *visit) error {
	if _, err := v.API.DeleteSkill(v.Context(), v.Form().Value("id")); err != nil {
		return err
	}
	return v.Redirect("/skills?trust=custom", good("The skill was deleted. Agents that have it keep it."))
}

// agentSkillsPage is the data of the skills of an agent.
type agentSkillsPage struct {
	Skills []agentSkill
	Form   *form
}

// agentSkill is a skill that an agent has.
type agentSkill struct {
	client.AgentSkill
	Update string // a newer version; empty: none is known
	Remote bool   // only its source knows whether there is one
	Show   string // the query that names it
}

func (s *Server) agentSkills(v *visit) error { return s.showAgentSkills(v, newForm()) }

func (s *Server) showAgentSkills(v *visit, f *form) error {
	a, err := v.API.Agent(v.Context(), v.Arg("id"))
	if err != nil {
		return err
	}
	all, err := v.API.AgentSkills(v.Context(), a.ID)
	if err != nil {
		return err
	}
	p := agentSkillsPage{Form: f}
	for _, one := range all {
		skill := agentSkill{AgentSkill: one, Remote: one.LatestVersion == nil && one.Source != "upload"}
		if latest := valueOf(one.LatestVersion); latest != one.InstalledVersion {
			skill.Update = latest
		}
		p.Skills = append(p.Skills, skill)
	}
	if !f.Valid() {
		return v.RenderAgentRefused("agentskills", a, "Skills", p)
	}
	return v.RenderAgent("agentskills", a, "Skills", p)
}

// importSkill installs a skill from an address of GitHub, or by its id.
func (s *Server) importSkill(v *visit) error {
	f := v.Form()
	id := f.Value("address")
	if !strings.HasPrefix(id, "https://github.com/") {
		f.Wrong("address", "Give an address such as https://github.com/OWNER/REPOSITORY/tree/main/skills/NAME.")
		return s.showAgentSkills(v, f)
	}
	done, err := v.API.InstallSkill(v.Context(), v.Arg("id"), client.InstallSkillRequest{SkillID: id, TrustLevel: "custom"})
	if err != nil {
		if f.Refused(err, map[string]string{"skillId": "address"}) {
			return s.showAgentSkills(v, f)
		}
		return err
	}
	return v.Redirect(path("/agents/%s/skills", v.Arg("id")), changedSkill(done, "is installed"))
}

func (s *Server) changeSkill(v *visit) error {
	f := v.Form()
	var in client.UpdateAgentSkillRequest
	what := "is up to date"
	switch f.Value("do") {
	case "enable", "disable":
		on := f.Value("do") == "enable"
		in.IsEnabled = &on
		if what = "is switched off"; on {
			what = "is switched on"
		}
	case "upgrade":
		in.Version = "latest"
	default:
		return fault.New(fault.Invalid, "The form does not say what to do.")
	}
	done, err := v.API.UpdateAgentSkill(v.Context(), v.Arg("id"), v.Arg("skill"), in)
	if err != nil {
		if f.Refused(err) {
			return s.showAgentSkills(v, f)
		}
		return err
	}
	return v.Redirect(path("/agents/%s/skills", v.Arg("id")), changedSkill(done, what))
}

func (s *Server) uninstallSkill(v *visit) error {
	done, err := v.API.UninstallSkill(v.Context(), v.Arg("id"), v.Arg("skill"))
	if err != nil {
		return err
	}
	text := done.SkillID + " was removed."
	if done.NeedsRestart {
		text += " Restart the agent to make it forget the skill."
	}
	return v.Redirect(path("/agents/%s/skills", v.Arg("id")), good(text))
}

// uploadPage is the data of the page to upload a skill.
type uploadPage struct{ Form *form }

func (s *Server) uploadForm(v *visit) error {
	return v.Render("skillupload", "Upload a skill", uploadPage{newForm("id", v.Query("id"), "version", "1.0.0")})
}

// uploadSkill takes a folder with SKILL.md, and adds it to the skills of the account.
func (s *Server) uploadSkill(v *visit) error {
	files, fields, err := v.sentFiles()
	f := &form{values: fields, errors: map[string]string{}}
	if err != nil {
		f = newForm()
		if !f.Refused(err) {
			return err
		}
		return v.RenderRefused("skillupload", "Upload a skill", uploadPage{f})
	}
	in, err := skillOf(files, f)
	if err == nil {
		var done client.SkillDetails
		if done, err = v.API.UploadSkill(v.Context(), in); err == nil {
			return v.Redirect("/skills/show?"+encodeQuery("id", done.ID)+"&trust=custom", good(fmt.Sprintf("%s %s was added to your skills. Look at what the scan has found before you install it.", done.Name, done.LatestVersion)))
		}
	}
	if f.Refused(err) {
		return v.RenderRefused("skillupload", "Upload a skill", uploadPage{f})
	}
	return err
}

// nameLine is the name in the head of SKILL.md.
var nameLine = regexp.MustCompile(`(?m)^name:[ \t]*["']?([^"'\r\n]+)`)

// skillOf makes an upload of the files of a folder. Hidden files are left out. Faults: Invalid.
func skillOf(files []sentFile, f *form) (client.UploadSkillRequest, error) {
	in := client.UploadSkillRequest{ID: f.Value("id"), Name: f.Value("name"), Version: cmp.Or(f.Value("version"), "1.0.0"), Category: f.Value("category")}
	at := slices.IndexFunc(files, func(one sentFile) bool { return one.Name == "SKILL.md" || strings.HasSuffix(one.Name, "/SKILL.md") })
	for i, one := range files { // the one that is highest
		if (one.Name == "SKILL.md" || strings.HasSuffix(one.Name, "/SKILL.md")) && strings.Count(one.Name, "/") < strings.Count(files[at].Name, "/") {
			at = i
		}
	}
	if at < 0 {
		return in, fault.New(fault.Invalid, "The folder has no SKILL.md. Choose the folder of the skill, with SKILL.md in it.")
	}
	folder := strings.TrimSuffix(files[at].Name, "SKILL.md")
	in.SkillMD = string(files[at].Content)
	for _, one := range files {
		name, inside := strings.CutPrefix(one.Name, folder)
		if !inside || name == "SKILL.md" || strings.HasPrefix(name, ".") || strings.Contains(name, "/.") {
			continue
		}
		file := client.SkillFile{Path: name, Content: string(one.Content)}
		if !utf8.Valid(one.Content) {
			file.Content, file.Encoding = base64.StdEncoding.EncodeToString(one.Content), "base64"
		}
		in.Files = append(in.Files, file)
	}
	name := ""
	if m := nameLine.FindStringSubmatch(in.SkillMD); m != nil {
		name = strings.TrimSpace(m[1])
	}
	in.Name = cmp.Or(in.Name, name)
	in.ID = cmp.Or(in.ID, slug(cmp.Or(name, strings.TrimSuffix(folder, "/"))))
	f.values.Set("id", in.ID)
	f.values.Set("name", in.Name)
	f.values.Set("version", in.Version)
	return in, nil
}

var notInSlug = regexp.MustCompile(`[^a-z0-9]+`)

// slug returns an id for a name.
func slug(name string) string {
	id := strings.Trim(notInSlug.ReplaceAllString(strings.ToLower(name), "-"), "-")
	return strings.Trim(id[:min(len(id), 64)], "-")
}
