// This file owns the other proxies that can be measured beside: where they may be.

package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// parsePeer reads name=url. A peer is on this machine: the suite sends as much as it
// can.
func parsePeer(text string) (target, error) {
	name, to, found := strings.Cut(text, "=")
	if !found || name == "" {
		return target{}, fmt.Errorf("%q is not name=url", text)
	}
	if name == targetDirect || name == targetGateway || name == targetCaddy {
		return target{}, fmt.Errorf("%s is the name of what is measured anyway: give the peer another", name)
	}
	u, err := url.Parse(to)
	if err != nil {
		return target{}, fmt.Errorf("the peer %s: %w", name, err)
	}
	if u.Scheme != "http" || u.Host == "" || strings.TrimSuffix(u.Path, "/") != "" {
		return target{}, fmt.Errorf("the peer %s: give it as http://127.0.0.1:<port>, without a path", name)
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), "80")
	}
	if err := checkLoopback(u.Host); err != nil {
		return target{}, fmt.Errorf("the peer %s: %w", name, err)
	}
	u.Path = ""
	return target{name: name, plain: u}, nil
}

// peerPID gives the last peer the number of its process.
func peerPID(peers []target, text string) error {
	if len(peers) == 0 {
		return errors.New("it comes after the peer that it is for")
	}
	pid, err := strconv.Atoi(text)
	if err != nil || pid < 1 {
		return fmt.Errorf("%q is no process number", text)
	}
	if _, err := cpuTime(pid); err != nil {
		return err
	}
	peers[len(peers)-1].pid = pid
	return nil
}

// checkLoopback refuses an address that is not on this machine. Names but localhost
// are refused too: what they stand for may change.
func checkLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%s is not a loopback address, such as 127.0.0.1 or localhost, and load is sent to no other", host)
	}
	return nil
}
