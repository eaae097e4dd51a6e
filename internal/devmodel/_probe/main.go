package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"agento.host/agento/internal/devmodel"
)

func main() {
	m, err := devmodel.Start(devmodel.Settings{})
	if err != nil { panic(err) }
	var fail atomic.Value
	fail.Store("")
	u, _ := url.Parse(m.URL())
	rp := httputil.NewSingleHostReverseProxy(u)
	rp.FlushInterval = -1
	var n atomic.Int64
	go http.ListenAndServe("127.0.0.1:"+os.Args[1], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/__fail" { fail.Store(r.URL.Query().Get("s") + "|" + r.URL.Query().Get("b")); return }
		b, _ := httputil.DumpRequest(r, true)
		k := n.Add(1)
		os.WriteFile("/tmp/mp/probe/req-"+strconv.FormatInt(k, 10)+".txt", b, 0o600)
		fmt.Println(time.Now().Format("15:04:05.000"), r.Method, r.URL, fail.Load())
		if f := fail.Load().(string); len(f) > 3 {
			var st int
			fmt.Sscanf(f, "%d", &st)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(st)
			fmt.Fprint(w, f[4:])
			return
		}
		rp.ServeHTTP(w, r)
	}))
	_ = bufio.ScanLines
	_ = json.Marshal
	<-context.Background().Done()
	select {}
}
