//go:build !linux

package process

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
)

var errNoNamespaces = errors.New("network namespaces need Linux")

func (namespace) do(context.Context, namespaceRequest) ([]*os.File, error) {
	return nil, errNoNamespaces
}

type socketPool struct{}

func (*socketPool) dial(context.Context, namespace, int) (net.Conn, error) {
	return nil, errNoNamespaces
}

func (sandbox) attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
