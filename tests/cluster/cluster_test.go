package main

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestServerAndClientCertificatesBelongTogether(t *testing.T) {
	ca, err := newAuthority("ca")
	if err != nil {
		t.Fatal(err)
	}
	serving, err := ca.server([]net.IP{net.IPv4(127, 0, 0, 1)}, []string{"localhost"})
	if err != nil {
		t.Fatal(err)
	}
	client, err := ca.client("someone", "group-a", "group-b")
	if err != nil {
		t.Fatal(err)
	}
	config, err := ca.tlsConfig(client)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := tls.X509KeyPair(serving.cert, serving.key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		subject := r.TLS.PeerCertificates[0].Subject
		_, _ = w.Write([]byte(subject.CommonName + " " + strings.Join(subject.Organization, ",")))
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{keys}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: config.RootCAs}
	server.StartTLS()
	defer server.Close()

	answer, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: config}}).Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body := make([]byte, 64)
	n, _ := answer.Body.Read(body)
	if got := string(body[:n]); got != "someone group-a,group-b" {
		t.Errorf("the server saw %q", got)
	}
}

func TestAReservedPortIsNobodyElses(t *testing.T) {
	p, err := reservePort()
	if err != nil {
		t.Fatal(err)
	}
	defer p.release()
	address := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: p.number}
	if listener, err := net.ListenTCP("tcp", address); err == nil {
		listener.Close()
		t.Errorf("port %d was given away", p.number)
	}
}

func TestPrepareDir(t *testing.T) {
	base := t.TempDir()
	t.Run("a new directory goes in the end", func(t *testing.T) {
		dir, clean, err := prepareDir(filepath.Join(base, "new"))
		if err != nil {
			t.Fatal(err)
		}
		clean()
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", dir, err)
		}
	})
	t.Run("of an empty one only the content goes", func(t *testing.T) {
		empty := t.TempDir()
		dir, clean, err := prepareDir(empty)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		clean()
		if first, err := firstEntry(empty); err != nil || first != "" {
			t.Errorf("left: %q, %v", first, err)
		}
	})
	t.Run("one in use is refused", func(t *testing.T) {
		used := t.TempDir()
		if err := os.WriteFile(filepath.Join(used, "precious"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := prepareDir(used); err == nil || !strings.Contains(err.Error(), "precious") {
			t.Errorf("want a refusal that names the file, got %v", err)
		}
	})
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("one\ntwo\nthree\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := string(tail(path, 100)); got != "one\ntwo\nthree\n" {
		t.Errorf("whole: %q", got)
	}
	if got := string(tail(path, 8)); got != "three\n" {
		t.Errorf("a line that was cut must not be shown: %q", got)
	}
}

func TestImageNames(t *testing.T) {
	for name, files := range map[string]map[string][]byte{
		"docker": {"manifest.json": []byte(`[{"RepoTags": ["localhost/thing:1"]}]`)},
		"oci":    {"index.json": []byte(`{"manifests": [{"annotations": {"org.opencontainers.image.ref.name": "localhost/thing:1"}}]}`)},
	} {
		if names, err := imageNames(archive(t, files)); err != nil || len(names) != 1 || names[0] != "localhost/thing:1" {
			t.Errorf("%s: %q, %v", name, names, err)
		}
	}
	for want, files := range map[string]map[string][]byte{
		"no image in it has a name": {"manifest.json": []byte(`[{"RepoTags": null}]`)},
		`called "1"`:                {"index.json": []byte(`{"manifests": [{"annotations": {"org.opencontainers.image.ref.name": "1"}}]}`)},
		`called "thing:1"`:          {"manifest.json": []byte(`[{"RepoTags": ["thing:1"]}]`)},
	} {
		if names, err := imageNames(archive(t, files)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want a refusal with %q, got %q, %v", want, names, err)
		}
	}
}

func archive(t *testing.T, files map[string][]byte) string {
	t.Helper()
	packed, err := pack(files)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(path, packed, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
