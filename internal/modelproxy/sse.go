package modelproxy

import "bytes"

// sseReader extracts the data from a stream of server-sent events that comes in pieces
// of any size.
type sseReader struct {
	data func([]byte) // gets a piece of an event's data
	end  func()       // is called at the end of an event

	start    []byte // of the current line, until its kind is known
	inData   bool   // the line is a data line
	skip     bool   // the line is of another kind
	nonEmpty bool   // the line has at least one byte
	cr       bool   // the last byte was a carriage return
}

var (
	dataField = []byte("data:")
	newline   = []byte("\n")
)

func (r *sseReader) write(p []byte) {
	for len(p) > 0 {
		if r.cr && p[0] == '\n' { // the second half of a line end
			r.cr = false
			p = p[1:]
			continue
		}
		r.cr = false
		n := bytes.IndexAny(p, "\r\n")
		if n < 0 {
			r.readLine(p)
			return
		}
		r.readLine(p[:n])
		r.cr = p[n] == '\r'
		r.endLine()
		p = p[n+1:]
	}
}

// readLine reads a piece of the current line.
func (r *sseReader) readLine(p []byte) {
	if len(p) > 0 {
		r.nonEmpty = true
	}
	for len(p) > 0 && !r.inData && !r.skip {
		r.start = append(r.start, p[0])
		p = p[1:]
		r.inData = len(r.start) == len(dataField) && bytes.Equal(r.start, dataField)
		r.skip = !r.inData && !bytes.HasPrefix(dataField, r.start)
	}
	if r.inData && len(p) > 0 {
		r.data(p)
	}
}

func (r *sseReader) endLine() {
	if !r.nonEmpty {
		r.end()
	} else if r.inData {
		r.data(newline)
	}
	r.start, r.inData, r.skip, r.nonEmpty = r.start[:0], false, false, false
}
