package agentlog

// MinBehind is minBehind.
const MinBehind = minBehind
