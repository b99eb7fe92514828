// Command probe is what the pods of the node's test run: one static program, in an image with nothing else.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

func main() {
	err := fmt.Errorf("usage: probe whoami|count DIR")
	switch {
	case len(os.Args) == 2 && os.Args[1] == "whoami":
		err = whoami()
	case len(os.Args) == 3 && os.Args[1] == "count":
		err = count(os.Args[2])
	}
	if err != nil {
		fmt.Println("probe:", err)
		os.Exit(1)
	}
}

// whoami asks the API server who the pod is, says it, and stays.
func whoami() error {
	token, err := os.ReadFile(account + "token")
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	client := http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
	}
	url := fmt.Sprintf("https://%s:%s/apis/authentication.k8s.io/v1/selfsubjectreviews",
		os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	body := []byte(`{"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}`)
	request, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	var review struct {
		Status struct{ UserInfo struct{ Username string } }
	}
	if err := json.Unmarshal(answer, &review); err != nil {
		return fmt.Errorf("%s: %s", response.Status, answer)
	}
	fmt.Println("I am", review.Status.UserInfo.Username)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	return nil
}

// count adds itself to the file `starts` and waits for a second start; that one writes the file `result`.
func count(dir string) error {
	starts := filepath.Join(dir, "starts")
	file, err := os.OpenFile(starts, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := file.WriteString("x"); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	for {
		seen, err := os.ReadFile(starts)
		if err != nil {
			return err
		}
		if len(seen) >= 2 {
			return os.WriteFile(filepath.Join(dir, "result"), []byte("counted to two"), 0o644)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
