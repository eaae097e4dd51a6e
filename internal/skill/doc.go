// Package skill manages what an agent can learn: the catalog of verified skills, the
// community registry, the uploads of an account, and the skills that are installed on
// each agent. It reads, scans and stores the files of a skill and never runs them.
//
// # Sources of skills
//
//	verified  the catalog: folders in the binary and in the operator's directory
//	clawhub   a registry of the community, over HTTP
//	custom    uploads of an account, or a folder of a GitHub repository
//
// # Steps of an installation
//
//	fetch ─→ unpack ─→ check ─→ scan ─→ (one transaction: limit, row, files) ─→ Agents.Sync
//
// Everything before the transaction happens in memory, so a failure leaves nothing
// behind. The transaction writes the desired state. Afterwards Store.SyncHome writes the
// files into the agent's home, called by the gateway manager; after a
// crash at any point, calling it again repairs the home.
//
// # Records and rules
//
// Store has the SQL and the files in agents' homes, and is used by packages that know
// nothing of the rules. Service has the rules for callers: plan, score, versions.
//
// # Libraries
//
// YAML, semantic versions and file watching come from libraries. slugify is written
// here: libraries for slugs transliterate letters (für becomes fuer, not f-r), which
// would change the ids of skills that have no manifest. Packages unpack and fetch say
// why they use no library.
package skill
