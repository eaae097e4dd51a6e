package browsertest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"
)

// Target says which element of a page is meant.
type Target struct {
	find string // an expression for the element, or null
	role string
	name string
}

// String describes the target.
func (t Target) String() string {
	if t.role != "" {
		return fmt.Sprintf("%s %q", t.role, t.name)
	}
	return t.find
}

// CSS is the first element that a selector matches.
func CSS(selector string) Target {
	return Target{find: fmt.Sprintf("document.querySelector(%s)", quote(selector))}
}

// Role is the element that assistive technology knows by a role, such as button, link or textbox, and a name.
func Role(role, name string) Target { return Target{role: role, name: name} }

// Button is Role("button", name).
func Button(name string) Target { return Role("button", name) }

// Link is Role("link", name).
func Link(name string) Target { return Role("link", name) }

// Text is the innermost visible element with exactly this text, where white space counts as one space.
func Text(text string) Target {
	return Target{find: fmt.Sprintf(`[...document.querySelectorAll('body *')].filter(e => e.checkVisibility() && e.innerText?.trim().replace(/\s+/g, ' ') == %s).pop() ?? null`, quote(text))}
}

// Label is the field with a label.
func Label(label string) Target {
	return Target{find: fmt.Sprintf(`[...document.querySelectorAll('label')].find(l => l.checkVisibility() && l.innerText.trim().replace(/\s+/g, ' ').startsWith(%s))?.control ?? null`, quote(label))}
}

// object waits until the element exists and is visible, and returns the browser's name of it.
func (tab *Tab) object(target Target, visible bool) string {
	tab.t.Helper()
	id := ""
	tab.wait(target.String(), func() bool {
		id = tab.lookup(target)
		return id != "" && (!visible || tab.on(id, "function() { return this.checkVisibility() && !this.disabled }") == true)
	})
	return id
}

// Has reports whether the element exists and is visible.
func (tab *Tab) Has(target Target) bool {
	tab.t.Helper()
	id := tab.lookup(target)
	return id != "" && tab.on(id, "function() { return this.checkVisibility() }") == true
}

// lookup returns the browser's name of an element; empty if there is none.
func (tab *Tab) lookup(target Target) string {
	if target.role != "" {
		return tab.lookupRole(target)
	}
	return tab.objectOf(target.find)
}

func (tab *Tab) objectOf(expression string) string {
	var found struct{ Result struct{ ObjectID string } }
	if tab.browser.call(tab.session, "Runtime.evaluate", map[string]any{"expression": expression}, &found) != nil {
		return "" // while the page is replaced by another one
	}
	return found.Result.ObjectID
}

func (tab *Tab) lookupRole(target Target) string {
	var found struct {
		Nodes []struct {
			Ignored          bool
			BackendDOMNodeID int
		}
	}
	document := tab.objectOf("document")
	if document == "" || tab.browser.call(tab.session, "Accessibility.queryAXTree", map[string]any{"objectId": document, "role": target.role, "accessibleName": target.name}, &found) != nil {
		return ""
	}
	var object struct{ Object struct{ ObjectID string } }
	for _, n := range found.Nodes {
		if !n.Ignored && tab.browser.call(tab.session, "DOM.resolveNode", map[string]any{"backendNodeId": n.BackendDOMNodeID}, &object) == nil {
			return object.Object.ObjectID
		}
	}
	return ""
}

// on calls a function with the element as this; nil if the element is gone.
func (tab *Tab) on(object, function string) any {
	var called struct{ Result struct{ Value any } }
	if tab.browser.call(tab.session, "Runtime.callFunctionOn", map[string]any{"objectId": object, "functionDeclaration": function, "returnByValue": true, "awaitPromise": true}, &called) != nil {
		return nil
	}
	return called.Result.Value
}

// Get returns what a function says of the element, such as "function() { return this.value }".
func (tab *Tab) Get(target Target, function string) any {
	tab.t.Helper()
	return tab.on(tab.object(target, false), function)
}

// Value returns the value of a field.
func (tab *Tab) Value(target Target) string {
	tab.t.Helper()
	return fmt.Sprint(tab.Get(target, "function() { return this.value }"))
}

// Name returns the name of an element for assistive technology.
func (tab *Tab) Name(target Target) string {
	tab.t.Helper()
	var tree struct {
		Nodes []struct{ Name struct{ Value string } }
	}
	tab.call("Accessibility.getPartialAXTree", map[string]any{"objectId": tab.object(target, false), "fetchRelatives": false}, &tree)
	if len(tree.Nodes) == 0 {
		return ""
	}
	return tree.Nodes[0].Name.Value
}

// Click clicks the middle of an element with the mouse.
func (tab *Tab) Click(target Target) {
	tab.t.Helper()
	x, y := tab.middle(target)
	for _, kind := range []string{"mouseMoved", "mousePressed", "mouseReleased"} {
		tab.call("Input.dispatchMouseEvent", map[string]any{"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}, nil)
	}
}

// middle scrolls to an element and returns where it is, when it stands still and nothing covers it.
func (tab *Tab) middle(target Target) (x, y float64) {
	tab.t.Helper()
	tab.wait(target.String()+" to be where a click reaches it", func() bool {
		place, _ := tab.on(tab.object(target, true), `async function() {
			this.scrollIntoView({block: 'center', inline: 'center', behavior: 'instant'});
			const before = this.getBoundingClientRect();
			await new Promise(done => setTimeout(done, 20));
			const r = this.getClientRects()[0] ?? this.getBoundingClientRect();
			const now = this.getBoundingClientRect();
			const x = r.x + r.width / 2, y = r.y + r.height / 2, top = this.getRootNode().elementFromPoint(x, y); // of its shadow tree, if it is in one
			const hit = top && (this.contains(top) || top.contains(this) || top.closest('label')?.control == this);
			return r.width && before.x == now.x && before.y == now.y && hit ? [x, y] : null;
		}`).([]any)
		if len(place) == 2 {
			x, _ = place[0].(float64)
			y, _ = place[1].(float64)
		}
		return len(place) == 2
	})
	return x, y
}

// Focus sets the focus to an element.
func (tab *Tab) Focus(target Target) {
	tab.t.Helper()
	tab.on(tab.object(target, true), "function() { this.focus() }")
}

// Type types a text where the focus is, key by key.
func (tab *Tab) Type(text string) {
	tab.t.Helper()
	for _, r := range text {
		if r == '\n' {
			tab.Press("Enter")
			continue
		}
		key := map[string]any{"type": "keyDown", "key": string(r), "text": string(r)}
		if r < 128 && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			key["windowsVirtualKeyCode"] = int(unicode.ToUpper(r))
		}
		tab.call("Input.dispatchKeyEvent", key, nil)
		key["type"] = "keyUp"
		delete(key, "text")
		tab.call("Input.dispatchKeyEvent", key, nil)
	}
}

// Fill replaces the text of a field by what is typed.
func (tab *Tab) Fill(target Target, text string) {
	tab.t.Helper()
	tab.on(tab.object(target, true), "function() { this.focus(); this.select?.() }")
	tab.Press("Backspace")
	tab.Type(text)
}

// Select chooses an option of a list by its text or value.
func (tab *Tab) Select(target Target, option string) {
	tab.t.Helper()
	done := tab.on(tab.object(target, true), fmt.Sprintf(`function() {
		const o = [...this.options].find(o => o.text.trim() == %[1]s || o.value == %[1]s);
		if (!o) return false;
		this.value = o.value;
		this.dispatchEvent(new Event('input', {bubbles: true}));
		this.dispatchEvent(new Event('change', {bubbles: true}));
		return true;
	}`, quote(option)))
	if done != true {
		tab.t.Fatalf("%s has no option %q", target, option)
	}
}

// keys are the keys with a name.
var keys = map[string]struct {
	code int
	text string
}{
	"Enter": {13, "\r"}, "Tab": {9, ""}, "Escape": {27, ""}, "Backspace": {8, ""}, "Delete": {46, ""}, "Space": {32, " "},
	"ArrowLeft": {37, ""}, "ArrowUp": {38, ""}, "ArrowRight": {39, ""}, "ArrowDown": {40, ""}, "Home": {36, ""}, "End": {35, ""}, "PageUp": {33, ""}, "PageDown": {34, ""},
}

// Press presses a key, such as "Enter", "Shift+Tab" or "Control+k".
func (tab *Tab) Press(key string) {
	tab.t.Helper()
	modifiers := 0
	for {
		held, rest, more := strings.Cut(key, "+")
		if !more || rest == "" {
			break
		}
		modifiers |= map[string]int{"Alt": 1, "Control": 2, "Meta": 4, "Shift": 8}[held]
		key = rest
	}
	event := map[string]any{"type": "rawKeyDown", "key": key, "modifiers": modifiers}
	if named, ok := keys[key]; ok {
		event["code"], event["windowsVirtualKeyCode"] = key, named.code
		if key == "Space" {
			event["key"] = " "
		}
		if named.text != "" && modifiers == 0 {
			event["type"], event["text"] = "keyDown", named.text
		}
	} else {
		event["code"], event["windowsVirtualKeyCode"] = "Key"+strings.ToUpper(key), int(strings.ToUpper(key)[0])
	}
	tab.call("Input.dispatchKeyEvent", event, nil)
	event["type"] = "keyUp"
	delete(event, "text")
	tab.call("Input.dispatchKeyEvent", event, nil)
}

// Upload chooses files in a field for files, which may be hidden behind a button.
func (tab *Tab) Upload(target Target, paths ...string) {
	tab.t.Helper()
	tab.call("DOM.setFileInputFiles", map[string]any{"objectId": tab.object(target, false), "files": paths}, nil)
}

// Drop drags files or directories from elsewhere onto an element.
func (tab *Tab) Drop(target Target, paths ...string) {
	tab.t.Helper()
	x, y := tab.middle(target)
	for _, kind := range []string{"dragEnter", "dragOver", "drop"} {
		tab.call("Input.dispatchDragEvent", map[string]any{
			"type": kind, "x": x, "y": y, "data": map[string]any{"items": []any{}, "files": paths, "dragOperationsMask": 1},
		}, nil)
	}
}

// File writes a file for Upload and Drop.
func (tab *Tab) File(name, content string) (path string) {
	tab.t.Helper()
	path = filepath.Join(tab.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		tab.t.Fatal(err)
	}
	return path
}
