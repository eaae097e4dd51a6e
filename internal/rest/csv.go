package rest

import (
	"fmt"
	"io"
)

// CSV is the Content-Type of a response whose Body has the method WriteCSV(io.Writer) error. A
// handler chooses it with a field of its output that has the tag header:"Content-Type". With its
// parameter it equals nothing that an Accept header names, so that no other response has it.
const CSV = "text/csv; charset=utf-8"

func writeCSV(w io.Writer, body any) error {
	table, ok := body.(interface{ WriteCSV(io.Writer) error })
	if !ok {
		return fmt.Errorf("%T is no table", body)
	}
	return table.WriteCSV(w)
}
