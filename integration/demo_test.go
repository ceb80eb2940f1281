package integration

import (
	"bufio"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

var demoSays = regexp.MustCompile(`(?s)Open +(http://localhost:\d+)/\n +User name +(\S+)\n +Password +(\S+)\n.*mfa user list --address (unix/\S+/admin\.sock)\n.*logged in (\S+)/log\.json\n`)

// TestDemo does what the demo tells people to do.
func TestDemo(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", "127.0.0.1:8080") // or somebody else has it: another port is taken either way
	if err == nil {
		defer busy.Close()
	}
	dir := t.TempDir()
	c := exec.Command(lab.Binary(t), "mfa", "demo")
	c.Env = append(os.Environ(), "HOME="+dir, "TMPDIR="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Process.Kill() // an error means that it has ended
	r := bufio.NewReader(stdout)
	var said strings.Builder
	for !strings.Contains(said.String(), "Ctrl-C") {
		line, err := r.ReadString('\n')
		said.WriteString(line)
		if err != nil {
			t.Fatalf("%v after\n%s", err, said.String())
		}
	}
	m := demoSays.FindStringSubmatch(said.String())
	if m == nil {
		t.Fatalf("the demo says\n%s", said.String())
	}
	address, user, password, admin := m[1], m[2], m[3], m[4]

	// 1. Sign in, put off the second step, and put up a notice.
	b := lab.NewBrowser(t, address)
	b.Password("/", user, password).Submit("later").Follow().Want("You are <b>alice</b>").Want("member of staff")
	b.Post("/", url.Values{"text": {"Coffee is <b>out</b>"}}).Want("Coffee is <b>out</b>")
	if strings.Contains(b.Get("/").Body, "<b>out</b>") {
		t.Error("the notice is markup")
	}
	// 2. Set up an app on the account page, sign out, sign in with a code.
	b.Get("/_mfa/account").Want("You have not set up a second step yet.")
	page := b.Get("/_mfa/register").Submit("begin")
	person := &lab.Person{Name: user, Key: page.Key()}
	page.Submit("code", "code", person.Code(t)).Submit("kept")
	b.Get("/_mfa/signout").Submit("Sign out")
	if b.Get("/").Has("Notice board") {
		t.Fatal("signed out, and the board is shown")
	}
	b.Password("/", user, password).Submit("code", "code", person.Code(t)).Follow().Want("Coffee")
	// 3. The password alone opens nothing.
	req, err := http.NewRequest("GET", address+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(user, password)
	if refused := lab.NewBrowser(t, address).Do(req); refused.Status != http.StatusForbidden || refused.Has("Notice board") {
		t.Errorf("Basic: %s", refused)
	}
	out, err := exec.Command(lab.Binary(t), "mfa", "user", "list", "--address", admin).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "registered") {
		t.Errorf("the administrator's command: %v\n%s", err, out)
	}

	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the demo ends with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the demo does not end at Ctrl-C")
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		t.Errorf("the demo leaves %s behind", e.Name())
	}
}

func TestDemoOnAPortThatIsTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	out, err := exec.Command(lab.Binary(t), "mfa", "demo", "--port", strconv.Itoa(port)).CombinedOutput()
	if err == nil {
		t.Fatalf("it takes a port that is taken:\n%s", out)
	}
	want(t, string(out), "port "+strconv.Itoa(port)+" can't be used", "--port")
}
