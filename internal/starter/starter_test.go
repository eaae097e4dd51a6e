package starter_test

import (
	"strings"
	"testing"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/starter"
)

func TestStartersAreWhole(t *testing.T) {
	for _, s := range starter.All() {
		found, ok := starter.Find(s.ID)
		if !ok || found.Name == "" || found.Description == "" {
			t.Errorf("%s: %+v", s.ID, found)
		}
		for _, r := range s.Rules {
			if strings.Contains(r.Name, ".") || !strings.HasPrefix(r.Content, "# ") {
				t.Errorf("%s has a rule %q that begins with %.20q", s.ID, r.Name, r.Content)
			}
			if !strings.Contains(s.WorkflowMD, "`"+r.Name+"`") {
				t.Errorf("the workflow of %s does not name its rule %s", s.ID, r.Name)
			}
		}
	}
}

func TestAnUnknownStarterIsNamed(t *testing.T) {
	problems := fault.Fields{}
	starter.Check(problems, "")
	starter.Check(problems, "blank")
	if problems.Err() != nil {
		t.Error(problems.Err())
	}
	if starter.Check(problems, "sales"); !strings.Contains(problems["starter"], "support, research, blank") {
		t.Errorf("%v", problems)
	}
}
