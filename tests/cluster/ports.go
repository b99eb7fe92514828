package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// port is a loopback port that is ours while the cluster lives.
//
// The socket is bound with SO_REUSEPORT but never listens: the kernel gives the number to nobody else, the
// component binds the same number (it is told to share), and all connections reach the component. So there is
// no moment in which another process could take the port, not even while the API server restarts.
type port struct {
	number int
	fd     int
}

func reservePort() (*port, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	p := &port{fd: fd}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		p.release()
		return nil, fmt.Errorf("SO_REUSEPORT: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		p.release()
		return nil, fmt.Errorf("bind to a free port of 127.0.0.1: %w", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		p.release()
		return nil, fmt.Errorf("getsockname: %w", err)
	}
	address, ok := name.(*unix.SockaddrInet4)
	if !ok {
		p.release()
		return nil, fmt.Errorf("getsockname: not an IPv4 address: %v", name)
	}
	p.number = address.Port
	return p, nil
}

func (p *port) release() {
	if p != nil {
		_ = unix.Close(p.fd)
	}
}
