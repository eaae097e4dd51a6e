package scan

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

const injected = "It speaks to the model as its master would, to make it disregard its instructions."

// who is the person an agent works for.
const who = `(the\s+|your\s+|any\s+)?(user|human|operator|owner|admin(istrator)?)s?\b`

// prompts are what the scanner objects to in words addressed to a model.
var prompts = []rule{
	{"prompt-injection", High, injected, words("ignore disregard forget override overrule bypass"),
		re(`\b(ignore|disregard|forget|override|overrule|bypass)\s+((all|any|every|each|of|the|your|those|these|my)\s+)*(previous|prior|above|earlier|preceding|existing|original|initial|system|developer|safety|other)\s+(\w+\s+)?(instruction|prompt|rule|guideline|message|direction|directive|polic|restriction|command|constraint)`), nil},
	{"prompt-injection", High, injected, words("忽略 无视 無視 ignora ignoriere ignorez ignorer игнорир"),
		re(`(忽略|无视|無視)(之前|以上|先前|所有|上述|前面)?的?(所有|全部)?(的)?(指令|提示|规则|指示)|(指示|命令|指令)を(すべて)?無視|\bignora\s+(todas\s+)?(las\s+)?instrucciones\s+(anteriores|previas)|\bignoriere\s+(alle\s+)?(vorherigen|bisherigen|obigen|vorigen)\s+(anweisungen|instruktionen|regeln)|\bignore[rz]?\s+(toutes\s+)?(les\s+)?instructions\s+(pr[ée]c[ée]dentes|ant[ée]rieures)|игнорир\S+\s+(все\s+)?(предыдущие|прежние)\s+(инструкции|указания)`), nil},
	{"prompt-injection", High, "It claims to stand above every other instruction.", words("priority precedence supersede"),
		re(`\b(highest|absolute|top|higher)\s+(priority|precedence)\b.{0,40}\b(than|over|above)\b.{0,30}\b(all|any|other|system|user|safety)|\b(take|takes|has|have)\s+(precedence|priority)\s+over\s+(all|any|every|other|system|the\s+system|safety)|\bsupersedes?\s+(all|any|every|the\s+system)\b`), nil},
	{"prompt-injection", High, "It forges the marks between a model's messages.", words("<| [inst] [/inst] <<sys>> <system> </system> system-reminder system_prompt"),
		re(`<\|\s*(im_start|im_end|system|assistant|user|endoftext|begin_of_text|start_header_id|eot_id)\s*\|>|\[/?INST\]|<</?SYS>>|</?(system|system[-_](prompt|reminder|message|instructions?))>`), nil},
	{"prompt-injection", High, "It asks the model to be something without limits.", words("jailb dan developer unrestricted restricted bound"),
		re(`\b(you\s+are|act\s+as|pretend\s+to\s+be|enter|enable)\s+(now\s+)?(in\s+)?(DAN\b|jailbroken|an?\s+unrestricted|developer\s+mode|god\s+mode)|\bno\s+longer\s+(bound|restricted)\s+by|\bjailbreak\s+(yourself|mode|the\s+model)`), nil},
	{"prompt-injection", High, "It asks for the model's instructions or keys.", words("reveal print output repeat leak send dump"),
		re(`\b(reveal|print|output|repeat|leak|send|dump)\s+(me\s+|us\s+)?(all\s+)?(your|the)\s+(full\s+|entire\s+|exact\s+|complete\s+)?(system\s+prompt|hidden\s+instructions|initial\s+instructions|api\s*keys?|credentials|environment\s+variables)`), nil},
	{"secrecy", High, "It wants something kept from the person the agent works for.", words("tell inform notify alert warn without hide conceal"),
		re(`\b(do\s+not|don['’]?t|never)\s+(tell|inform|notify|alert|warn)\s+` + who + `|\bwithout\s+(telling|informing|notifying|alerting|warning|(the\s+)?knowledge\s+of)\s+` + who + `|\b(hide|conceal)\s+(this|it|that|these|the\s+(command|action|step|output|result))s?\s+from\s+` + who), nil},
	{"secrecy", High, "It wants something done unseen.", words("secretly silently covertly stealthily quietly unnoticed"),
		re(`\b(secretly|silently|covertly|stealthily|quietly)\s+(send|upload|post|copy|forward|transmit|exfiltrate|run|execute|install|delete|append|write|modify|read|collect|download)`), nil},
	{"exfiltration", Critical, "It asks for private things to be sent away.", words("send post upload forward transmit exfiltrate leak email include append"),
		re(`\b(send|post|upload|forward|transmit|exfiltrate|leak|email|include|append)\b.{0,80}\b(api[ _-]?keys?|credentials?|passwords?|secrets|access\s+tokens?|private\s+keys?|memory\.md|soul\.md|user\.md|(conversation|chat)\s+history|environment\s+variables?)\b.{0,80}(https?://|\bto\s+\S+@\S+\.\w|\bwebhook\b)`), nil},
	{"skips-consent", Medium, "It wants steps taken without the consent they need.", words("--dangerously --yolo confirmation approval permission sandbox guardrail safety consent"),
		re(`--dangerously-\S+|--yolo\b|\b(disable|turn\s+off|bypass|skip|circumvent|evade)\s+(the\s+|any\s+|all\s+|its\s+)*(safety|security|approval|confirmation|permission|sandbox|guardrail)|\bwithout\s+(asking\s+(for\s+)?|waiting\s+for\s+|any\s+|user\s+|prior\s+)+(confirmation|approval|permission|consent)`), nil},
	{"rewrites-agent", High, "It changes the files that say who the agent is.", words("soul.md agents.md identity.md tools.md heartbeat.md bootstrap.md workflow.md"),
		re(`(\b(write|append|edit|overwrite|replace|modify|update|add|insert|put|save|echo|tee|cat)\b|>>?|(write|append)file\w*\().{0,100}\b(soul|agents|identity|tools|heartbeat|bootstrap|workflow)\.md\b`), nil},
	{"rewrites-memory", Low, "It writes to the agent's memory, which every conversation reads.", words("memory.md user.md"),
		re(`(\b(write|append|edit|overwrite|replace|modify|update|add|insert|put|save|echo|tee)\b|>>?|(write|append)file\w*\().{0,100}\b(memory|user)\.md\b`), nil},
	{"bypasses-model", Medium, "Its command calls a tool directly, past the model.", words("command-dispatch"),
		re(`^\s*command-dispatch\s*:`), nil},
	{"hidden-style", Medium, "It styles text so that a person does not see it.", words("display: display:none font-size opacity visibility"),
		re(`display\s*:\s*none|font-size\s*:\s*0|opacity\s*:\s*0[;"'\s]|visibility\s*:\s*hidden`), nil},
}

var (
	comment  = regexp.MustCompile(`(?s)<!--(.*?)-->`)
	fetches  = re(`\b(curl|wget)\b[^|;&]*\s(-o|-O|--output|>)`)
	makesRun = re(`\bchmod\s+(-\S+\s+)*([ugoa]*\+[rwxs]*x|[0-7]?7[0-7]{2})`)
	sends    = re(`\bcurl\b.*\s(-d|--data\S*|-F|--form|-T|-X\s*(POST|PUT)|--request\s*(POST|PUT))\b|\bmethod\s*:\s*["'](POST|PUT)|\brequests\.(post|put)\(|\baxios\.(post|put)\(|\bsendbeacon\(|\burlopen\(.*data|\bnc\s+\S+\s+\d+|\bhttp\.request\(`)
)

// longLine is how long a line of code may be before nobody reads it.
const longLine = 4000

// together looks for commands that are harmless one by one.
func (fs *findings) together(name, lower string) {
	if fetches.MatchString(lower) && makesRun.MatchString(lower) {
		fs.add("download-execute", High, name, 0, "It downloads a program and makes it executable.", "")
	}
	if fs.has(name, "credential-read", "env-dump") && sends.MatchString(lower) {
		fs.add("exfiltration", Critical, name, 0, "It reads credentials and sends data away.", "")
	}
}

// combined looks at what only the whole file shows.
func (fs *findings) combined(name, lower string) {
	fs.together(name, lower)
	if markdown(name) {
		fs.comments(name, lower)
	}
	for i, line := range strings.Split(lower, "\n") {
		if len(line) > longLine && !markdown(name) && !table(name) {
			fs.add("long-line", Medium, name, i+1, fmt.Sprintf("A line of %d characters, which nobody reads.", len(line)), "")
			return
		}
	}
}

// comments reports what a rendered page does not show but a model reads.
func (fs *findings) comments(name, text string) {
	for _, at := range comment.FindAllStringSubmatchIndex(text, perRule+1) {
		inside := strings.TrimSpace(text[at[2]:at[3]])
		if len(strings.Fields(inside)) < 6 {
			continue
		}
		line := 1 + strings.Count(text[:at[0]], "\n")
		fs.add("hidden-comment", Low, name, line, "A comment that a reader of the page does not see, but a model does.", inside)
	}
}

func (fs *findings) has(file string, rules ...string) bool {
	return slices.ContainsFunc(rules, func(rule string) bool { return fs.in[place{rule, file}] })
}

func markdown(name string) bool {
	ext := strings.ToLower(path.Ext(name))
	return ext == ".md" || ext == ".markdown" || ext == ".txt" || ext == ".html"
}

func table(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".csv", ".tsv", ".json", ".jsonl", ".svg":
		return true
	}
	return false
}
