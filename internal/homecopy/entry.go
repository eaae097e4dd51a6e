package homecopy

import (
	"encoding/json"

	"agento.host/agento/internal/repository"
)

// Type is the kind of an entry.
type Type string

// The types.
const (
	Directory Type = "d"
	File      Type = "f"
	Link      Type = "l"
)

// Entry is a directory, file or link of a copy. The entries of a copy are sorted so that
// directories come before what is in them.
type Entry struct {
	Path    Bytes  `json:"p"` // from the home, with slashes
	Type    Type   `json:"t"`
	Mode    uint32 `json:"m"`           // permissions, without setuid, setgid and sticky
	ModTime int64  `json:"d,omitempty"` // nanoseconds since 1970
	Link    Bytes  `json:"k,omitempty"` // where a link leads

	Size    int64              `json:"s,omitempty"`
	Content repository.Content `json:"c,omitempty"`
	Data    []Range            `json:"r,omitempty"` // what Content has of a file with holes; nil: everything

	Identity *identity `json:"i,omitempty"` // nil: the file is read again for the next copy
	Database *Database `json:"b,omitempty"`
}

// Range is a part of a file.
type Range struct {
	Offset int64 `json:"o"`
	Length int64 `json:"l"`
}

// Database says that a file is an SQLite database. What its WAL had is in its content.
type Database struct {
	WAL identity `json:"w"`
}

// Bytes is a text with any bytes. In JSON it is base64.
type Bytes string

// MarshalJSON implements json.Marshaler.
func (b Bytes) MarshalJSON() ([]byte, error) { return json.Marshal([]byte(b)) }

// UnmarshalJSON implements json.Unmarshaler.
func (b *Bytes) UnmarshalJSON(data []byte) error {
	var raw []byte
	err := json.Unmarshal(data, &raw)
	*b = Bytes(raw)
	return err
}

// identity tells whether a file is the same as before.
type identity struct {
	Inode  uint64 `json:"i"`
	Size   int64  `json:"s"`
	MTime  int64  `json:"m"`
	Change int64  `json:"c"` // the time of the last change of anything, which an agent cannot set
}
