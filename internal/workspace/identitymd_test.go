package workspace

import (
	"strings"
	"testing"
)

func TestRenamedReplacesTheName(t *testing.T) {
	for before, want := range map[string]string{
		"# IDENTITY.md\n\n- **Name:** Old\n- **Emoji:** x": "# IDENTITY.md\n\n- **Name:** New\n- **Emoji:** x",
		"- Name: Old":                      "- Name: New",
		"- **Name**: Old\r\n- Vibe: calm":  "- **Name**: New\r\n- Vibe: calm",
		"* __name:__ Old":                  "* __name:__ New",
		"- **Name:**\n  _(pick one)_":      "- **Name:** New\n  _(pick one)_",
		"- Name: A\n- Name: B":             "- Name: A\n- Name: New",
		"# Who am I\n\n- Vibe: calm":       "# Who am I\n\n- **Name:** New\n- Vibe: calm",
		"# Who am I":                       "- **Name:** New\n\n# Who am I",
		"- Nickname: Bo\n- Surname: Black": "- **Name:** New\n\n- Nickname: Bo\n- Surname: Black",
		"":                                 "- **Name:** New\n\n",
	} {
		if got := renamed(before, "New"); got != want {
			t.Errorf("%q gives %q, want %q", before, got, want)
		}
	}
}

func FuzzRenamed(f *testing.F) {
	f.Add("# IDENTITY.md\n\n- **Name:** A", "B")
	f.Add("- name:*\r\n", "$0 \\1")
	f.Fuzz(func(t *testing.T, before, name string) {
		got := renamed(before, name)
		if !strings.Contains(got, oneLine(name)) {
			t.Fatalf("%q is not in %q", name, got)
		}
		if again := renamed(got, name); again != got {
			t.Fatalf("renaming twice gives %q, once %q", again, got)
		}
	})
}
