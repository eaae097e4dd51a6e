// Package skill owns what an agent can learn: the catalog of verified skills, the
// community registry, an account's own uploads, and what is installed on which
// agent. It reads, scans and stores the files of a skill and never runs one.
//
// # Where a skill comes from
//
//	verified  the catalog: a folder in the binary, and one of the operator
//	clawhub   a registry of the community, over HTTP
//	custom    an account's uploads, or a folder of a GitHub repository
//
// # The road of an installation
//
//	fetch ─→ unpack ─→ check ─→ scan ─→ (one transaction: limit, row, files) ─→ Applier
//
// Everything up to the transaction happens in memory, so a failure leaves
// nothing behind. The transaction writes down what is wanted; the files reach the
// agent's home afterwards, by Plan and Sync in the reconciler's hands, and a crash
// at any point is repaired by doing that again.
package skill
