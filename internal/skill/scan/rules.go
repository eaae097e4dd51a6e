package scan

import (
	"regexp"
	"strings"
	"sync"
)

// rule matches dangerous lines. Every line that re matches contains at least one of the
// hints, which are lower-case; they are searched first, since that is faster.
type rule struct {
	id       string
	severity Severity
	message  string
	hints    []string
	re       *pattern
	unless   *pattern // matched text that this matches too is harmless
}

// hasHint reports whether lower-case text contains a hint of the rule.
func (r *rule) hasHint(lower string) bool {
	for _, h := range r.hints {
		if strings.Contains(lower, h) {
			return true
		}
	}
	return false
}

// find returns the start and end of the first match in a line; nil if there is none.
func (r *rule) find(line string) []int {
	if r.unless == nil {
		return r.re.get().FindStringIndex(line)
	}
	for _, at := range r.re.get().FindAllStringIndex(line, 20) {
		if !r.unless.get().MatchString(line[at[0]:at[1]]) {
			return at
		}
	}
	return nil
}

// candidates returns the rules that may match somewhere in a lower-case text.
func candidates(lower string) []*rule {
	var out []*rule
	for _, set := range [][]rule{codeRules, promptRules} {
		for i := range set {
			if set[i].hasHint(lower) {
				out = append(out, &set[i])
			}
		}
	}
	return out
}

// shells matches the programs that run what is piped into them.
const shells = `(sudo\s+(-\S+\s+)*)?(\S*/)?((ba|z|da|k|a|fi)?sh|python[0-9.]*|node|perl|ruby|php|bun|deno|osascript)\b`

func words(s string) []string { return strings.Fields(s) }

// pattern is a regular expression that is compiled when it is used: every start of this program
// would take 8 ms longer otherwise.
type pattern struct{ get func() *regexp.Regexp }

// re returns the pattern of an expression that ignores case.
func re(s string) *pattern { return literal(`(?i)` + s) }

func literal(s string) *pattern {
	return &pattern{sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(s) })}
}

// codeRules match dangerous commands, code and addresses.
var codeRules = []rule{
	// Code from the internet that is run without a review.
	{"net-pipe-shell", Critical, "It downloads code and runs it at once.", words("curl wget fetch aria2c"),
		re("\\b(curl|wget|fetch|aria2c)\\b[^;&]*\\|\\s*" + shells), nil},
	{"net-pipe-shell", Critical, "It downloads code and runs it at once.", words("curl wget"),
		re("(\\b(ba|z|da|k)?sh\\b(\\s+-\\S+)*|\\beval\\b|\\bsource\\b|\\bpython[0-9.]*\\s+-c|\\bnode\\s+-e)\\s+[\"']?(<\\(|\\$\\(|`)\\s*(curl|wget)\\b"), nil},
	{"net-pipe-shell", Critical, "It downloads code and runs it at once.", words("iex invoke-expression"),
		re(`\b(iwr|irm|invoke-webrequest|invoke-restmethod|downloadstring)\b.*\b(iex|invoke-expression)\b|\b(iex|invoke-expression)\b.*(\b(iwr|irm|invoke-webrequest|invoke-restmethod)\b|downloadstring)`), nil},
	{"net-pipe-shell", Critical, "It downloads code and runs it at once.", words("exec( eval( function("),
		re(`(\bexec|\beval|\bnew\s+function)\(.{0,100}(urlopen|urllib|requests\.get|\bfetch\(|https?:)`), nil},
	{"encoded-exec", Critical, "It decodes code and runs it.", words("base64 xxd openssl atob b64decode"),
		re(`\b(base64\s+(-d|-D|--decode)|xxd\s+-r|openssl\s+(enc|base64)\b.*-d)\b[^;]*\|\s*` + shells +
			`|\b(eval|exec|function)\s*\(.{0,80}(atob|b64decode|base64)|\beval\b.*base64\s+(-d|--decode)`), nil},
	{"encoded-exec", Critical, "It decodes code and runs it.", words("powershell pwsh"),
		re(`\b(powershell|pwsh)\b.*\s-e(nc|ncodedcommand)?\s+[a-z0-9+/=]{40,}`), nil},
	{"remote-install", Medium, "It installs software that is not part of the skill.", words("install npx uvx bunx dlx"),
		re(`\b(pip3?|pipx|uv\s+(pip|tool))\s+install\s+\S|\b(npm|pnpm|yarn)\s+(-g\s+)?(i|install|add|dlx)\s+(-\S+\s+)*[@a-z]|\b(npx|bunx)\s+(-y|--yes)\b|\buvx\s+[a-z]|\b(brew|gem|cargo)\s+install\s+\S|\bapt(-get)?\s+(-\S+\s+)*install\s+\S|\bgo\s+install\s+\S+@`), nil},
	{"declares-installer", Medium, "It asks OpenClaw to download and install something.", words("download"),
		re(`["']?kind["']?\s*:\s*["']?download\b`), nil},

	// Remote control and destruction.
	{"reverse-shell", Critical, "It opens a shell for another machine.", words("/dev/tcp /dev/udp nc ncat netcat bash socat pty.spawn dup2"),
		re(`/dev/(tcp|udp)/[^\s/]+/|\b(nc|ncat|netcat)\b[^|;]*\s-[a-z]*[ec]\s+\S*sh\b|\bbash\s+-i\s*[>&|]|\bsocat\b.*\bexec:|\bmkfifo\b.*\bnc\b|pty\.spawn\(|dup2\(.*fileno`), nil},
	{"miner", Critical, "It mines cryptocurrency.", words("stratum xmrig cpuminer minerd nicehash"),
		re(`stratum\+(tcp|ssl)://|\b(xmrig|cpuminer|minerd|nicehash)\b`), nil},
	{"destructive", Critical, "It deletes or overwrites files outside the skill.", words("rm mkfs dd :(){ :()"),
		re(`\brm\s+(-\S+\s+)*-[a-z]*(rf|fr)[a-z]*\s+(-\S+\s+)*["']?(/|~|\$HOME|\$\{HOME\})(/?\*|/?["']|/?\s|/?$)|\bmkfs(\.\w+)?\s+(-\S+\s+)*/dev/|\bdd\b.*\bof=/dev/(sd|nvme|vd|xvd|hd|disk|mem)|:\(\)\s*\{\s*:\s*\|\s*:`), nil},

	// Credentials.
	{"credential-read", High, "It names a place where credentials are stored.", words(".ssh .aws .netrc .git-credentials .kube .docker .npmrc .pypirc gcloud credentials .gnupg /etc/ id_rsa id_ed25519 id_ecdsa keychain"),
		re(`\.ssh/|\.aws/(credentials|config)|\.netrc\b|\.git-credentials|\.kube/config|\.docker/config\.json|[~/]\.npmrc|\.pypirc|application_default_credentials|gcloud/\S*credentials|\.gnupg/|/etc/(shadow|gshadow|sudoers)|\bid_(rsa|ed25519|ecdsa|dsa)\b|find-generic-password|\.keychain(-db)?\b|login\.keychain`), nil},
	{"credential-read", High, "It names a place where credentials are stored.", words("cookies logins.json login wallet keystore mnemonic seed"),
		re(`\bcookies\.sqlite|\blogins\.json|["'/]login data\b|\bwallet\.dat\b|\.ethereum/keystore|\b(wallet|recovery|secret)\s+(seed|mnemonic)|\bseed\s+phrase`), nil},
	{"credential-read", High, "It accesses the credentials of the machine or of the agent.", words("/proc/ 169.254 metadata auth-profiles openclaw /run/secrets gateway_token"),
		re(`/proc/(self|\d+|\*|\$\S+)/(environ|mem|maps|cmdline)|\b169\.254\.(169\.254|170\.2)\b|metadata\.google\.internal|auth-profiles\.json|\bopenclaw\.json\b|openclaw-agent\.sqlite|/run/secrets|OPENCLAW_GATEWAY_TOKEN`), nil},
	{"env-dump", High, "It reads all environment variables at once.", words("printenv env environ export declare"),
		re("(^|[;|&`(]\\s*)((printenv|export\\s+-p|declare\\s+-x)\\s*(\\||>|$|`|\\))|env\\s*(\\||>))|json\\.stringify\\(\\s*process\\.env\\s*[,)]|object\\.(entries|values|assign)\\((\\s*\\{\\s*\\}\\s*,)?\\s*process\\.env\\s*\\)|(dict|json\\.dumps|str|repr)\\(.{0,20}os\\.environ\\b\\s*\\)|os\\.environ\\.(items|copy)\\("), nil},
	{"uses-secret", Low, "It uses a secret from the environment of the agent.", words("key token secret password"),
		re(`process\.env(\.|\[["'])\w*(key|token|secret|password)|os\.(environ|getenv).{0,12}["']\w*(key|token|secret|password)|\$\{?[A-Z0-9_]*(API_?KEY|TOKEN|SECRET|PASSWORD)\b`), nil},

	// Data that is sent away.
	{"upload", Medium, "It uploads a local file.", words("curl wget"),
		re(`\bcurl\b.*\s(-T\s|--upload-file\b|-F\s+\S*=@|--form\s+\S*=@|(-d|--data(-binary|-raw|-urlencode)?)[\s=]+["']?@)|\bwget\b.*--post-file`), nil},
	{"drop-site", High, "It names a service that is often used to collect stolen data.", words("webhook requestbin pipedream ngrok transfer.sh pastebin paste.ee 0x0.st file.io interact.sh oast burpcollaborator hookbin beeceptor trycloudflare serveo dnslog api.telegram localtunnel loca.lt"),
		re(`\bwebhook\.site|\brequestbin\.|\bpipedream\.net|\.ngrok(-free)?\.(io|app|dev)|\btransfer\.sh\b|\bpastebin\.com|\bpaste\.ee\b|\b0x0\.st\b|//file\.io\b|\binteract\.sh\b|\.oast\.(me|fun|pro|live|site|online)|burpcollaborator|\bhookbin\.|\bbeeceptor\.com|\btrycloudflare\.com|\bserveo\.net|\bdnslog\.|\bdiscord(app)?\.com/api/webhooks|\bapi\.telegram\.org/(file/)?bot|\bloca\.lt\b`), nil},
	{"image-exfiltration", High, "The address of an image sends data away when the image is shown.", words("!["),
		re(`!\[[^\]]*\]\(\s*https?://[^)]*([?&=/](\{|\$|<)|%7b|\{\{)`), nil},
	{"data-in-url", High, "An address contains private data, which is sent away when it is opened.", words("memory history conversation environ"),
		re(`https?://\S+[?&][\w-]*=?(\{\{?|\$\{?|<)\s*[\w .]*(memory|history|conversation|environ)`), nil},
	{"secret-in-url", Medium, "An address contains a secret, which logs may keep.", words("secret token password key"),
		re(`https?://\S+[?&][\w-]*=?(\{\{?|\$\{?|<)\s*[\w .]*(secret|token|password|key)`), nil},
	{"short-link", Medium, "A shortened link hides its target.", words("bit.ly tinyurl t.co goo.gl is.gd cutt.ly rb.gy ow.ly shorturl"),
		re(`\b(bit\.ly|tinyurl\.com|t\.co|goo\.gl|is\.gd|cutt\.ly|rb\.gy|ow\.ly|shorturl\.at)/\w`), nil},
	{"raw-address", Medium, "A numeric address does not show who owns it.", words("://"),
		re(`https?://(\S+@)?((\d{1,3}\.){3}\d{1,3}|0x[0-9a-f]{8}|\d{8,10}|\[[0-9a-f:]+\])([:/\s"')\x60]|$)`), re(`//(127\.|0\.0\.0\.0|\[::1?\])`)},
	{"punycode", Medium, "A domain name that can look like another one.", words("xn--"),
		re(`https?://([\w-]+\.)*xn--`), nil},
	{"plain-http", Low, "Data over plain http can be changed on the way.", words("http://"),
		re(`http://[a-z0-9][\w.-]*`), re(`//(localhost|127\.|0\.0\.0\.0|([\w-]+\.)*example\.(com|org|net)|([\w-]+\.)?(w3|xmlsoap|openxmlformats|purl)\.(org|com)|schemas\.|[\w-]+(:|/|$))`)},

	// Access outside the workspace.
	{"writes-outside", High, "It writes outside the workspace.", words("/etc /usr /bin /sbin /lib /boot /root /var /opt"),
		re(`(>>?|\btee\b(\s+-a)?)\s*["']?/(etc|usr|bin|sbin|lib|lib64|boot|root|var|opt)/|\b(cp|mv|ln|install|rsync)\s+([^|;&]*\s)?["']?/(etc|usr|bin|sbin|lib|lib64|boot|root|var|opt)/[^|;&\s]*["']?\s*($|[|;&\x60])|(writefile|appendfile|createwritestream|\bopen)(sync)?\(\s*["'\x60]/(etc|usr|bin|sbin|lib|boot|root|var|opt)/`), nil},
	{"writes-outside", High, "It changes files that a shell or program reads when it starts.", words(".bashrc .zshrc .profile .bash_profile .zprofile .zshenv .gitconfig autostart authorized_keys"),
		re(`(>>?|\btee\b|\bappend\b|\badd\b|\bwrite\b|\becho\b|file\w*\().{0,100}(~|\$HOME|\$\{HOME\}|/home/\w+|/root)?/?\.(bashrc|zshrc|profile|bash_profile|zprofile|zshenv|gitconfig|config/autostart)|authorized_keys`), nil},
	{"path-escape", Medium, "A path leaves its folder.", words("../../ ..\\..\\"),
		re(`(\.\./){2,}|(\.\.\\){2,}`), nil},
	{"persistence", High, "It installs itself to be started again automatically.", words("cron systemctl launchctl launchagents launchdaemons rc.local autostart schtasks"),
		re(`\bcrontab\s+(-|[^-\s])|\|\s*crontab\b|/etc/cron|/var/spool/cron|\bsystemctl\s+(--\S+\s+)*(enable|link)|\blaunchctl\s+(load|bootstrap)|launch(agents|daemons)/|/etc/rc\.local|\bschtasks\b.*/create`), re(`\bcrontab\s+-l`)},
	{"privilege", Medium, "It requests more rights than an agent has.", words("sudo doas chmod setcap setuid"),
		re(`(^|[\s;|&\x60(])(sudo|doas)\s+[a-z/-]|\bchmod\s+(-\S+\s+)*([ugoa]*\+s|[2467][0-7]{3}|0?777)\b|\bsetcap\s+\S|\bsetuid\(`), nil},

	// Code that is generated, obfuscated or starts programs.
	{"dynamic-code", Medium, "It runs code that it generates.", words("eval exec( function( __import__ runin marshal.loads pickle.loads"),
		re(`(^|[^.\w])eval\(|(^|[^.\w])exec\(|\bnew\s+function\s*\(|__import__\(|\bvm\.(runin\w+|script)\(|\b(marshal|pickle)\.loads?\(`), nil},
	{"runs-commands", Low, "It starts other programs.", words("child_process subprocess os.system os.popen popen("),
		re(`\bchild_process\b|\bsubprocess\.|\bos\.(system|popen)\(`), nil},
	{"obfuscation", High, "The code is obfuscated.", words("\\x \\u fromcharcode chr( [][ ![]"),
		re(`(\\x[0-9a-f]{2}){16,}|(\\u[0-9a-f]{4}){16,}|fromcharcode\((\s*(0x)?[0-9a-f]+\s*,){8,}|(chr\(\d+\)\s*[+.]\s*){6,}|[\[\]!+(){}]{60,}`), nil},
}
