package api

import (
	"bytes"
	"encoding/json"
	"testing"
	"testing/quick"
	"time"

	"agento.host/agento/client"
)

// The encoder of lists writes what encoding/json writes, whatever the fields say.
func TestAppendJSONIsThatOfEncodingJSON(t *testing.T) {
	same := func(rows []client.AgentSummary) bool {
		body := client.List[client.AgentSummary]{Data: rows, Pagination: client.Pagination{Total: 3, Limit: 2, Offset: 1}}
		var want bytes.Buffer
		e := json.NewEncoder(&want)
		e.SetEscapeHTML(false)
		if err := e.Encode(body); err != nil {
			t.Fatal(err)
		}
		got, ok := appendJSON(nil, body)
		if !ok || string(got)+"\n" != want.String() {
			t.Logf("got  %s\nwant %s", got, want.String())
			return false
		}
		return true
	}
	random := func(texts [5]string, swarm *client.SwarmRef, ms [3]uint32) bool {
		at := func(i int) client.Time { return client.Time{Time: time.UnixMilli(int64(ms[i]) << 8)} }
		started, stopped := at(1), at(2)
		row := client.AgentSummary{
			ID: texts[0], Name: texts[1], Status: client.AgentStatus(texts[2]), Region: texts[3], Image: texts[4],
			Swarm: swarm, CreatedAt: at(0), StartedAt: &started, StoppedAt: &stopped,
		}
		return same([]client.AgentSummary{row, {Name: texts[0]}})
	}
	if err := quick.Check(random, nil); err != nil {
		t.Error(err)
	}
	odd := []client.AgentSummary{{ID: "a", Name: "<b>&\"\\\u2028\x00\n\xff é 🙂", Status: client.Running}}
	for _, rows := range [][]client.AgentSummary{nil, {}, odd} {
		if !same(rows) {
			t.Errorf("%v", rows)
		}
	}
	if _, ok := appendJSON(nil, client.Agent{}); ok {
		t.Error("an agent is encoded as a list")
	}
}
