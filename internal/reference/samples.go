package reference

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// Sample is an example request in one language.
type Sample struct {
	Language string // as people write it
	Lexer    string // its name for the highlighter
	Code     string
}

// Samples returns the request as a program in each language. They take the server's address
// and the API key from the environment, and need nothing but the language.
func (r Request) Samples() []Sample {
	return []Sample{
		{"curl", "bash", r.curl()},
		{"JavaScript", "javascript", r.javaScript()},
		{"Python", "python", r.python()},
		{"Go", "go", r.golang()},
	}
}

// headers returns the headers of the request without the key.
func (r Request) headers() [][2]string {
	var all [][2]string
	switch {
	case r.Upload != "":
		all = append(all, [2]string{"Content-Type", r.UploadType})
	case r.Body != "":
		all = append(all, [2]string{"Content-Type", "application/json"})
	}
	if r.Header != "" {
		all = append(all, [2]string{r.Header, r.Value})
	}
	return all
}

// json returns the body in lines that begin with indent, but for the first.
func (r Request) json(indent string) string {
	var out bytes.Buffer
	if err := json.Indent(&out, []byte(r.Body), indent, "  "); err != nil {
		panic(fmt.Sprintf("the example of %s %s: %v", r.Method, r.Path, err)) // which every test finds
	}
	return out.String()
}

func (r Request) curl() string {
	first := "curl"
	switch {
	case r.Stream:
		first += " -N"
	case r.Method != "GET" && r.Body == "" && r.Upload == "":
		first += " -X " + r.Method
	case r.Method != "GET" && r.Method != "POST":
		first += " -X " + r.Method
	}
	lines := []string{first + ` "$AGENTO_URL` + r.Path + `"`, `-H "X-Api-Key: $AGENTO_API_KEY"`}
	for _, h := range r.headers() {
		lines = append(lines, fmt.Sprintf(`-H "%s: %s"`, h[0], h[1]))
	}
	switch {
	case r.Upload != "":
		lines = append(lines, "--data-binary @"+r.Upload)
	case r.Body != "":
		lines = append(lines, "-d '"+strings.ReplaceAll(r.json("  "), "'", `'\''`)+"'")
	}
	if r.Download != "" {
		lines = append(lines, "-o "+r.Download)
	}
	return strings.Join(lines, " \\\n  ")
}

func (r Request) javaScript() string {
	var b strings.Builder
	if r.Download != "" || r.Upload != "" {
		fn := "readFile"
		if r.Download != "" {
			fn = "writeFile"
		}
		fmt.Fprintf(&b, "import { %s } from \"node:fs/promises\";\n\n", fn)
	}
	fmt.Fprintf(&b, "const response = await fetch(`${process.env.AGENTO_URL}%s`, {\n", r.Path)
	if r.Method != "GET" {
		fmt.Fprintf(&b, "  method: %q,\n", r.Method)
	}
	b.WriteString("  headers: {\n    \"X-Api-Key\": process.env.AGENTO_API_KEY,\n")
	for _, h := range r.headers() {
		fmt.Fprintf(&b, "    %q: %q,\n", h[0], h[1])
	}
	b.WriteString("  },\n")
	switch {
	case r.Upload != "":
		fmt.Fprintf(&b, "  body: await readFile(%q),\n", r.Upload)
	case r.Body != "":
		fmt.Fprintf(&b, "  body: JSON.stringify(%s),\n", r.json("  "))
	}
	b.WriteString("});\nif (!response.ok) throw new Error(await response.text());\n")
	switch {
	case r.Stream:
		event := "JSON.parse(line.slice(6))"
		if r.IsLines {
			event = "line.slice(6)"
		}
		fmt.Fprintf(&b, `
let rest = "";
for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + text).split("\n");
  rest = lines.pop();
  for (const line of lines) {
    if (line.startsWith("data: ")) console.log(%s);
  }
}`, event)
	case r.Download != "":
		fmt.Fprintf(&b, "await writeFile(%q, Buffer.from(await response.arrayBuffer()));", r.Download)
	default:
		b.WriteString("console.log(await response.json());")
	}
	return b.String()
}

// literal finds the values of JSON that Python writes in another way, at the ends of lines.
var literal = regexp.MustCompile(`(?m)(^ *|: )(true|false|null)(,?)$`)

func (r Request) python() string {
	var b strings.Builder
	if r.Body != "" || (r.Stream && !r.IsLines) || (!r.Stream && r.Download == "") {
		b.WriteString("import json\n")
	}
	b.WriteString("import os\nfrom urllib.request import Request, urlopen\n\nrequest = Request(\n")
	fmt.Fprintf(&b, "    os.environ[\"AGENTO_URL\"] + %q,\n", r.Path)
	if r.Method != "GET" {
		fmt.Fprintf(&b, "    method=%q,\n", r.Method)
	}
	b.WriteString("    headers={\n        \"X-Api-Key\": os.environ[\"AGENTO_API_KEY\"],\n")
	for _, h := range r.headers() {
		fmt.Fprintf(&b, "        %q: %q,\n", h[0], h[1])
	}
	b.WriteString("    },\n")
	switch {
	case r.Upload != "":
		fmt.Fprintf(&b, "    data=open(%q, \"rb\").read(),\n", r.Upload)
	case r.Body != "":
		body := literal.ReplaceAllStringFunc(r.json("    "), func(s string) string {
			return strings.NewReplacer("true", "True", "false", "False", "null", "None").Replace(s)
		})
		fmt.Fprintf(&b, "    data=json.dumps(%s).encode(),\n", body)
	}
	b.WriteString(")\nwith urlopen(request) as response:\n")
	switch {
	case r.Stream:
		event := "json.loads(line[6:])"
		if r.IsLines {
			event = "line[6:].decode().rstrip()"
		}
		fmt.Fprintf(&b, "    for line in response:\n        if line.startswith(b\"data: \"):\n            print(%s, flush=True)", event)
	case r.Download != "":
		fmt.Fprintf(&b, "    open(%q, \"wb\").write(response.read())", r.Download)
	default:
		b.WriteString("    print(json.load(response))")
	}
	return b.String()
}

func (r Request) golang() string {
	packages := []string{"log", "net/http", "os"}
	body, before := "nil", ""
	switch {
	case r.Upload != "":
		body = "body"
		before = fmt.Sprintf("\tbody, err := os.Open(%q)\n\tif err != nil {\n\t\tlog.Fatal(err)\n\t}\n", r.Upload)
	case r.Body != "":
		body, packages = "body", append(packages, "strings")
		before = "\tbody := strings.NewReader(`" + r.json("\t") + "`)\n"
	}
	if r.Stream {
		packages = append(packages, "bufio", "fmt", "strings")
	} else {
		packages = append(packages, "io")
	}
	var b strings.Builder
	b.WriteString("package main\n\nimport (\n")
	for _, name := range []string{"bufio", "fmt", "io", "log", "net/http", "os", "strings"} {
		for _, p := range packages {
			if p == name {
				fmt.Fprintf(&b, "\t%q\n", name)
				break
			}
		}
	}
	b.WriteString(")\n\nfunc main() {\n" + before)
	fmt.Fprintf(&b, "\treq, err := http.NewRequest(%q, os.Getenv(\"AGENTO_URL\")+%q, %s)\n\tif err != nil {\n\t\tlog.Fatal(err)\n\t}\n", r.Method, r.Path, body)
	b.WriteString("\treq.Header.Set(\"X-Api-Key\", os.Getenv(\"AGENTO_API_KEY\"))\n")
	for _, h := range r.headers() {
		fmt.Fprintf(&b, "\treq.Header.Set(%q, %q)\n", h[0], h[1])
	}
	b.WriteString("\tres, err := http.DefaultClient.Do(req)\n\tif err != nil {\n\t\tlog.Fatal(err)\n\t}\n\tdefer res.Body.Close()\n\tif res.StatusCode >= 300 {\n\t\tlog.Fatal(res.Status)\n\t}\n")
	switch {
	case r.Stream:
		b.WriteString("\tlines := bufio.NewScanner(res.Body)\n\tfor lines.Scan() {\n\t\tif event, ok := strings.CutPrefix(lines.Text(), \"data: \"); ok {\n\t\t\tfmt.Println(event)\n\t\t}\n\t}\n\tif err := lines.Err(); err != nil {\n\t\tlog.Fatal(err)\n\t}\n}")
	case r.Download != "":
		fmt.Fprintf(&b, "\tfile, err := os.Create(%q)\n\tif err != nil {\n\t\tlog.Fatal(err)\n\t}\n\tdefer file.Close()\n\tif _, err := io.Copy(file, res.Body); err != nil {\n\t\tlog.Fatal(err)\n\t}\n}", r.Download)
	default:
		b.WriteString("\tif _, err := io.Copy(os.Stdout, res.Body); err != nil {\n\t\tlog.Fatal(err)\n\t}\n}")
	}
	return b.String()
}
