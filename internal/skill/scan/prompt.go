package scan

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

const overridesInstructions = "It tells the model to ignore its instructions."

// user matches the names of the person that an agent works for.
const user = `(the\s+|your\s+|any\s+)?(user|human|operator|owner|admin(istrator)?)s?\b`

// promptRules match dangerous instructions to a model.
var promptRules = []rule{
	{"prompt-injection", High, overridesInstructions, words("ignore disregard forget override overrule bypass"),
		re(`\b(ignore|disregard|forget|override|overrule|bypass)\s+((all|any|every|each|of|the|your|those|these|my)\s+)*(previous|prior|above|earlier|preceding|existing|original|initial|system|developer|safety|other)\s+(\w+\s+)?(instruction|prompt|rule|guideline|message|direction|directive|polic|restriction|command|constraint)`), nil},
	{"prompt-injection", High, overridesInstructions, words("忽略 无视 無視 ignora ignoriere ignorez ignorer игнорир"),
		re(`(忽略|无视|無視)(之前|以上|先前|所有|上述|前面)?的?(所有|全部)?(的)?(指令|提示|规则|指示)|(指示|命令|指令)を(すべて)?無視|\bignora\s+(todas\s+)?(las\s+)?instrucciones\s+(anteriores|previas)|\bignoriere\s+(alle\s+)?(vorherigen|bisherigen|obigen|vorigen)\s+(anweisungen|instruktionen|regeln)|\bignore[rz]?\s+(toutes\s+)?(les\s+)?instructions\s+(pr[ée]c[ée]dentes|ant[ée]rieures)|игнорир\S+\s+(все\s+)?(предыдущие|прежние)\s+(инструкции|указания)`), nil},
	{"prompt-injection", High, "It claims priority over all other instructions.", words("priority precedence supersede"),
		re(`\b(highest|absolute|top|higher)\s+(priority|precedence)\b.{0,40}\b(than|over|above)\b.{0,30}\b(all|any|other|system|user|safety)|\b(take|takes|has|have)\s+(precedence|priority)\s+over\s+(all|any|every|other|system|the\s+system|safety)|\bsupersedes?\s+(all|any|every|the\s+system)\b`), nil},
	{"prompt-injection", High, "It imitates the markers between the messages of a model.", words("<| [inst] [/inst] <<sys>> <system> </system> system-reminder system_prompt"),
		re(`<\|\s*(im_start|im_end|system|assistant|user|endoftext|begin_of_text|start_header_id|eot_id)\s*\|>|\[/?INST\]|<</?SYS>>|</?(system|system[-_](prompt|reminder|message|instructions?))>`), nil},
	{"prompt-injection", High, "It tells the model to act without restrictions.", words("jailb dan developer unrestricted restricted bound"),
		re(`\b(you\s+are|act\s+as|pretend\s+to\s+be|enter|enable)\s+(now\s+)?(in\s+)?(DAN\b|jailbroken|an?\s+unrestricted|developer\s+mode|god\s+mode)|\bno\s+longer\s+(bound|restricted)\s+by|\bjailbreak\s+(yourself|mode|the\s+model)`), nil},
	{"prompt-injection", High, "It asks for the instructions or keys of the model.", words("reveal print output repeat leak send dump"),
		re(`\b(reveal|print|output|repeat|leak|send|dump)\s+(me\s+|us\s+)?(all\s+)?(your|the)\s+(full\s+|entire\s+|exact\s+|complete\s+)?(system\s+prompt|hidden\s+instructions|initial\s+instructions|api\s*keys?|credentials|environment\s+variables)`), nil},
	{"secrecy", High, "It tells the model to hide something from the user.", words("tell inform notify alert warn without hide conceal"),
		re(`\b(do\s+not|don['’]?t|never)\s+(tell|inform|notify|alert|warn)\s+` + user + `|\bwithout\s+(telling|informing|notifying|alerting|warning|(the\s+)?knowledge\s+of)\s+` + user + `|\b(hide|conceal)\s+(this|it|that|these|the\s+(command|action|step|output|result))s?\s+from\s+` + user), nil},
	{"secrecy", High, "It tells the model to do something secretly.", words("secretly silently covertly stealthily quietly unnoticed"),
		re(`\b(secretly|silently|covertly|stealthily|quietly)\s+(send|upload|post|copy|forward|transmit|exfiltrate|run|execute|install|delete|append|write|modify|read|collect|download)`), nil},
	{"exfiltration", Critical, "It tells the model to send private data away.", words("send post upload forward transmit exfiltrate leak email include append"),
		re(`\b(send|post|upload|forward|transmit|exfiltrate|leak|email|include|append)\b.{0,80}\b(api[ _-]?keys?|credentials?|passwords?|secrets|access\s+tokens?|private\s+keys?|memory\.md|soul\.md|user\.md|(conversation|chat)\s+history|environment\s+variables?)\b.{0,80}(https?://|\bto\s+\S+@\S+\.\w|\bwebhook\b)`), nil},
	{"skips-consent", Medium, "It tells the model to skip a confirmation or a safety measure.", words("--dangerously --yolo confirmation approval permission sandbox guardrail safety consent"),
		re(`--dangerously-\S+|--yolo\b|\b(disable|turn\s+off|bypass|skip|circumvent|evade)\s+(the\s+|any\s+|all\s+|its\s+)*(safety|security|approval|confirmation|permission|sandbox|guardrail)|\bwithout\s+(asking\s+(for\s+)?|waiting\s+for\s+|any\s+|user\s+|prior\s+)+(confirmation|approval|permission|consent)`), nil},
	{"rewrites-agent", High, "It changes the files that define the agent.", words("soul.md agents.md identity.md tools.md heartbeat.md bootstrap.md workflow.md"),
		re(`(\b(write|append|edit|overwrite|replace|modify|update|add|insert|put|save|echo|tee|cat)\b|>>?|(write|append)file\w*\().{0,100}\b(soul|agents|identity|tools|heartbeat|bootstrap|workflow)\.md\b`), nil},
	{"rewrites-memory", Low, "It writes to the memory of the agent, which every conversation reads.", words("memory.md user.md"),
		re(`(\b(write|append|edit|overwrite|replace|modify|update|add|insert|put|save|echo|tee)\b|>>?|(write|append)file\w*\().{0,100}\b(memory|user)\.md\b`), nil},
	{"bypasses-model", Medium, "Its command calls a tool directly, without the model.", words("command-dispatch"),
		re(`^\s*command-dispatch\s*:`), nil},
	{"hidden-style", Medium, "It styles text so that a person does not see it.", words("display: display:none font-size opacity visibility"),
		re(`display\s*:\s*none|font-size\s*:\s*0|opacity\s*:\s*0[;"'\s]|visibility\s*:\s*hidden`), nil},
}

var (
	commentPattern  = literal(`(?s)<!--(.*?)-->`)
	downloadPattern = re(`\b(curl|wget)\b[^|;&]*\s(-o|-O|--output|>)`)
	chmodPattern    = re(`\bchmod\s+(-\S+\s+)*([ugoa]*\+[rwxs]*x|[0-7]?7[0-7]{2})`)
	sendPattern     = re(`\bcurl\b.*\s(-d|--data\S*|-F|--form|-T|-X\s*(POST|PUT)|--request\s*(POST|PUT))\b|\bmethod\s*:\s*["'](POST|PUT)|\brequests\.(post|put)\(|\baxios\.(post|put)\(|\bsendbeacon\(|\burlopen\(.*data|\bnc\s+\S+\s+\d+|\bhttp\.request\(`)
)

// maxLine is the longest line of code, in bytes, that a person is expected to review.
const maxLine = 4000

// scanCombinations reports commands that are dangerous only together in one file.
func (s *scanner) scanCombinations(name, lower string) {
	if downloadPattern.get().MatchString(lower) && chmodPattern.get().MatchString(lower) {
		s.add("download-execute", High, name, 0, "It downloads a program and makes it executable.", "")
	}
	if s.hasMatched(name, "credential-read", "env-dump") && sendPattern.get().MatchString(lower) {
		s.add("exfiltration", Critical, name, 0, "It reads credentials and sends data away.", "")
	}
}

// scanWhole reports what can be seen only in the whole text of a file.
func (s *scanner) scanWhole(name, lower string) {
	s.scanCombinations(name, lower)
	if isDocument(name) {
		s.scanComments(name, lower)
	}
	for i, line := range strings.Split(lower, "\n") {
		if len(line) > maxLine && !isDocument(name) && !isData(name) {
			s.add("long-line", Medium, name, i+1, fmt.Sprintf("A line of %d characters, which a person cannot review.", len(line)), "")
			return
		}
	}
}

// scanComments reports comments that a rendered page does not show but a model reads.
func (s *scanner) scanComments(name, text string) {
	for _, at := range commentPattern.get().FindAllStringSubmatchIndex(text, maxPerRule+1) {
		inside := strings.TrimSpace(text[at[2]:at[3]])
		if len(strings.Fields(inside)) < 6 {
			continue
		}
		line := 1 + strings.Count(text[:at[0]], "\n")
		s.add("hidden-comment", Low, name, line, "A model reads this comment, but a reader of the rendered page does not see it.", inside)
	}
}

// hasMatched reports whether one of the rules matched in a file.
func (s *scanner) hasMatched(file string, rules ...string) bool {
	return slices.ContainsFunc(rules, func(rule string) bool { return s.matched[ruleFile{rule, file}] })
}

// isDocument reports whether a file is text for people, by its extension.
func isDocument(name string) bool {
	ext := strings.ToLower(path.Ext(name))
	return ext == ".md" || ext == ".markdown" || ext == ".txt" || ext == ".html"
}

// isData reports whether a file is data or an image in text form, by its extension.
func isData(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".csv", ".tsv", ".json", ".jsonl", ".svg":
		return true
	}
	return false
}
