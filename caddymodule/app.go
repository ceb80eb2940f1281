// Package caddymodule is what of caddy-mfa knows Caddy: the app `mfa`, the handler `mfa`, their Caddyfile, the stores as guest
// modules, the admin endpoints and the commands.
package caddymodule

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/admin"
	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/directory/file"
	"github.com/caddy-mfa/caddy-mfa/internal/directory/htpasswd"
	"github.com/caddy-mfa/caddy-mfa/internal/directory/watched"
	"github.com/caddy-mfa/caddy-mfa/internal/factor/pass"
	"github.com/caddy-mfa/caddy-mfa/internal/factor/recovery"
	"github.com/caddy-mfa/caddy-mfa/internal/factor/totp"
	"github.com/caddy-mfa/caddy-mfa/internal/factor/webauthn"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/geoip"
	"github.com/caddy-mfa/caddy-mfa/internal/inventory"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/password"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/policy/graph"
	"github.com/caddy-mfa/caddy-mfa/internal/portal"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
	"github.com/caddy-mfa/caddy-mfa/internal/signin"
	"github.com/caddy-mfa/caddy-mfa/internal/signinlog"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

func init() { caddy.RegisterModule(new(App)) }

// App is the app `mfa`: users, factors, sessions and policy, for every site that uses the handler `mfa`.
type App struct {
	config.Config

	ctx         caddy.Context
	log         *zap.Logger
	slog        *slog.Logger
	secrets     [][]byte
	sessions    storeModule
	accounts    storeModule
	directories []*watched.Directory
	rules       *policy.Set
	devices     deviceRules
	countries   *geoip.Countries // nil: none configured
	terms       []portal.Terms
	makers      *x509.CertPool // of security keys, who are believed about them; nil: none
	senders     map[string]senderModule
	live        *live
	released    bool // live was given back
	sink        *sink
	signIns     *signinlog.Log       // nil: off
	inventory   *inventory.Inventory // made by start; nil: off

	mu       sync.Mutex
	handlers []*Handler
	gated    map[string][]*gate.Application // by name; made when the sites were checked

	once    sync.Once
	runtime *runtime
	err     error
}

// runtime is what a configuration is made into when it is first used.
type runtime struct {
	gate        *gate.Gate
	portal      *portal.Portal
	signin      *signin.Service
	admin       *admin.Service
	connections *session.Connections
	sink        *sink
	stop        context.CancelFunc

	lastUnavailable atomic.Int64 // Unix seconds of the last line in the log
	done            *sync.WaitGroup
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mfa", New: func() caddy.Module { return new(App) }}
}

const needsSecret = "`secret` is required with a store that several machines share, so that all of them use the same; " +
	"make one with `openssl rand -base64 32`, and write for example `secret {file./run/secrets/mfa}`"

// healthPatience bounds the question whether everything works: an answer comes within a second.
const healthPatience = 900 * time.Millisecond

// hashing is the pool that every configuration checks passwords in: the machine is the same.
var hashing = sync.OnceValue(func() *password.Pool { return password.NewPool(0, -1, 0) })

// strangers take at most half of the queue for it: the rest is for those whose browser is known.
var strangers = sync.OnceValue(func() *throttle.AtOnce {
	pool := hashing().Stats()
	return throttle.NewAtOnce(pool.Workers + pool.Queue/2)
})

// Provision checks the configuration and takes what it needs from the pools. It opens nothing: it also runs under
// `caddy validate`.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx, a.log, a.slog = ctx, ctx.Logger(), ctx.Slogger()
	if err := append(a.Validate(), checkPolicies(&a.Config)...).Err(); err != nil {
		return err
	}
	a.SetDefaults()
	if err := a.provisionStores(); err != nil {
		return err
	}
	repl := caddy.NewReplacer()
	for i, s := range a.Secret {
		resolved, err := repl.ReplaceOrErr(s, true, true)
		if err != nil {
			return fmt.Errorf("secret %d: %w", i+1, err)
		}
		a.secrets = append(a.secrets, []byte(resolved))
	}
	if len(a.secrets) > 0 {
		if _, err := seal.NewKeyring(a.secrets...); err != nil {
			return fmt.Errorf("%w; make one with `openssl rand -base64 32`", err)
		}
	} else if a.sessions.Shared() || a.accounts.Shared() {
		return errors.New(needsSecret)
	}
	for _, d := range a.Users {
		dir, err := a.directory(d)
		if err != nil {
			return err
		}
		a.directories = append(a.directories, dir)
	}
	var err error
	if err = a.provisionSenders(); err != nil {
		return err
	}
	if err = a.provisionPolicy(); err != nil {
		return err
	}
	if a.live, err = acquireLive(a.sessions, a.accounts); err != nil {
		return err
	}
	if !a.SignInLog.Off {
		a.signIns = signinlog.New(a.accounts.Store(), signinlog.Settings{
			Keep: time.Duration(a.SignInLog.Keep), Max: a.SignInLog.Max, Log: a.slog, Dropped: func(n int) { signInsDropped.Add(float64(n)) },
		})
	}
	a.sink = newSink(a.log, a.signIns)
	return registerMetrics(ctx.GetMetricsRegistry())
}

// directory makes a directory of what is configured, and reads it.
func (a *App) directory(d config.Directory) (dir *watched.Directory, err error) {
	var what, path string
	if h := d.Htpasswd; h != nil {
		what, path = "htpasswd file", h.Path
		dir = htpasswd.New(htpasswd.Settings{Name: h.Name, Path: path, Groups: h.Groups, WeakUntil: h.WeakHashesUntil.Time}, hashing(), a.slog)
	} else {
		what, path = "users file", d.File.Path
		dir = file.New(d.File.Name, path, hashing(), a.slog)
	}
	if err := dir.Load(); err != nil {
		if absolute, absErr := filepath.Abs(path); absErr == nil {
			path = absolute // who runs `caddy-mfa` from another folder must see where it was looked for
		}
		return nil, fmt.Errorf("%s %s:\n%w", what, path, err)
	}
	return dir, nil
}

func (a *App) provisionStores() error {
	if a.StoreRaw == nil && (a.SessionsRaw == nil || a.AccountsRaw == nil) {
		a.StoreRaw = []byte(`{"module":"bolt"}`)
	}
	load := func(field string) (storeModule, error) {
		value, err := a.ctx.LoadModule(a, field)
		if err != nil {
			return nil, fmt.Errorf("loading store: %w", err)
		}
		s, ok := value.(storeModule)
		if !ok {
			return nil, fmt.Errorf("loading store: %T is no store", value)
		}
		return s, nil
	}
	var err error
	if a.SessionsRaw != nil {
		if a.sessions, err = load("SessionsRaw"); err != nil {
			return err
		}
	}
	if a.AccountsRaw != nil {
		if a.accounts, err = load("AccountsRaw"); err != nil {
			return err
		}
	}
	if a.StoreRaw == nil {
		return nil
	}
	both, err := load("StoreRaw")
	if err != nil {
		return err
	}
	if a.sessions == nil {
		a.sessions = both
	}
	if a.accounts == nil {
		a.accounts = both
	}
	return nil
}

// Start begins to serve, unless a request has been faster: Caddy starts its apps in no order.
func (a *App) Start() error {
	if _, err := a.ready(); err != nil {
		return err
	}
	active.set(a)
	return nil
}

// Stop takes the configuration out of force. What watches over requests that are in flight goes on until Cleanup: when the server
// ends, Caddy may stop this app before those that wait for their requests.
func (a *App) Stop() error {
	active.unset(a)
	return nil
}

// Cleanup ends what runs for this configuration and gives back what Provision has taken, also when it has failed half-way. A
// configuration that was not started may run all the same, see ready.
func (a *App) Cleanup() error {
	a.once.Do(func() { a.err = errors.New("this configuration has been replaced") })
	if a.runtime != nil {
		a.runtime.stop()
		a.runtime.done.Wait()
	}
	if current := active.get(); current != nil && current != a {
		// This one may have set up the stores differently, and then failed.
		current.configureStores()
	}
	// Metrics may be read from it still: it is not set to nil.
	if a.live == nil || a.released {
		return nil
	}
	a.released = true
	return releaseLive(a.live)
}

// ready gives the runtime, and makes it on first use.
func (a *App) ready() (*runtime, error) {
	a.once.Do(func() {
		a.runtime, a.err = a.start()
		if a.err != nil {
			a.log.Error("starting", zap.Error(a.err))
		}
	})
	return a.runtime, a.err
}

func (a *App) start() (*runtime, error) {
	ctx, cancel := context.WithTimeout(a.ctx, 30*time.Second)
	defer cancel()
	if err := a.checkSites(); err != nil {
		return nil, err
	}
	if err := a.openStores(ctx); err != nil {
		return nil, err
	}
	keys, err := a.keyring(ctx)
	if err != nil {
		return nil, err
	}
	sessions, accounts := a.sessions.Store(), a.accounts.Store()

	var dirs directory.Directories
	for _, d := range a.directories {
		dirs = append(dirs, d)
	}
	rules := a.rules
	cache := time.Duration(a.Session.Cache)
	sessionManager := session.NewManager(sessions, a.live.sessions, session.NewCodec(keys), session.Settings{
		Idle: time.Duration(a.Session.Idle), Lifetime: time.Duration(a.Session.Lifetime), Cache: cache, Stay: time.Duration(a.Session.Remember),
	})
	accountService := account.NewService(accounts, a.live.accounts, cache, keys)
	generation := account.NewGeneration(accounts, generationKeeper{a.ctx.Storage()}, keys)
	passwords := throttle.NewPasswords(accounts)
	machineKeys := a.machineKeys(dirs, accountService, generation, keys)
	passkeys := a.passkeys()
	g := &gate.Gate{
		Sessions: sessionManager, Accounts: accountService, Users: dirs, Policy: rules, Passkeys: passkeys, Keys: machineKeys,
		Verified: a.live.verified, PerUserAppPasswords: machineKeys.PerUser, Emergency: a.LegacyEmergency,
	}
	app := totp.Factor{}
	if a.Factor.TOTP != nil {
		app.Issuer = a.Factor.TOTP.Issuer
	}
	texts, err := portal.NewTexts()
	if err != nil {
		return nil, err
	}
	replaced := make(chan struct{})
	codes, courier := a.passcodes(replaced)
	messages := a.messages()
	service := &signin.Service{
		Gate: g, Users: dirs, Accounts: accountService, Sessions: sessionManager,
		Pending: signin.NewPending(sessions, keys), Passwords: passwords, Strangers: strangers(), Policy: rules, Generation: generation,
		Browsers: signin.NewBrowsers(keys), Registrars: []mfa.Registrar{passkeys, app},
		Factors: map[mfa.Method]mfa.Factor{
			mfa.Passkey: passkeys, mfa.TOTP: app, mfa.RecoveryCode: recovery.Factor{}, mfa.TemporaryAccessPass: pass.Factor{},
		},
		Keys: machineKeys, Upstreams: a.perUserUpstreams(), Applications: a.applications(), Invitations: signin.NewInvitations(accounts, keys), Owners: signin.NewOwners(accounts),
		Sink: a.sink, Log: a.slog, Verdicts: a.live.verdicts, Describe: a.describe, Country: a.country,
		Messages: messages, Courier: courier, Compose: texts.Compose,
	}
	if err := a.push(service, sessions, keys, texts, replaced); err != nil {
		return nil, err
	}
	for _, f := range codes {
		service.Registrars, service.Factors[f.Method()] = append(service.Registrars, f), f
	}
	a.sink.notices = a.teller(service, texts, replaced)
	g.Passwords = service
	if a.signIns != nil {
		service.SignIns = a.recent
	}
	pages, err := portal.New(portal.Portal{
		Service: service, Returns: portal.NewReturns(keys), Texts: texts, Help: a.Help, Terms: a.terms, Log: a.slog,
		Health: func(ctx context.Context) error {
			// One after the other they could take as many seconds.
			ctx, cancel := context.WithTimeout(ctx, healthPatience)
			defer cancel()
			err := accounts.Ping(ctx)
			if sessions != accounts {
				err = errors.Join(err, sessions.Ping(ctx))
			}
			return errors.Join(err, generation.Check(ctx))
		},
	})
	if err != nil {
		return nil, err
	}
	if err := generation.Check(ctx); err != nil {
		// Nobody can sign in until this is mended, and the server must run for that.
		a.log.Error("checking account store", zap.Error(err))
	}
	if rules.Defaults.Off && len(rules.Policies) == 0 && !rules.PerUser.On {
		a.log.Warn("security defaults are off, and nothing stands in their place: nobody is asked for a second factor")
	}

	a.warnOfLegacy(time.Now())

	running, stop := context.WithCancel(context.Background())
	rt := &runtime{
		gate: g, portal: pages, signin: service, connections: a.live.connections, sink: a.sink,
		admin: &admin.Service{
			Users: dirs, Accounts: accountService, Sessions: sessionManager, Passwords: passwords, Messages: messages, Generation: generation, Sink: a.sink,
			Policy: rules, Applications: a.applications(), Country: a.country, Upstreams: a.perUserUpstreams(),
			PerUserNoEffect: perUserNoEffect(rules), Keys: machineKeys, KeyThrottle: machineKeys.Throttle, KnownRole: graph.IsRole, MailAddresses: service.MailAddresses,
		},
		stop: stop, done: &sync.WaitGroup{},
	}
	if a.countries != nil {
		rt.done.Go(func() { a.countries.Run(running) })
	}
	changed := make(chan struct{}, 1)
	rt.done.Go(func() { a.endOfDisabled(running, machineKeys, changed) })
	for _, d := range a.directories {
		d.OnChange(func() {
			rt.connections.Recheck(mfa.UserID{})
			select {
			case changed <- struct{}{}:
			default: // it is yet to be seen that something has changed
			}
		})
		rt.done.Go(func() { d.Run(running) })
	}
	if !a.LegacyReport.Off {
		a.inventory = a.newInventory(keys, dirs)
		rt.done.Go(func() { a.inventory.Run(running) })
		rt.done.Go(func() { a.watchExceptions(running) })
	}
	if a.signIns != nil {
		rt.done.Go(func() { a.signIns.Run(running) })
	}
	if a.sink.notices != nil {
		rt.done.Go(func() { a.sink.notices.Run(running) })
	}
	rt.done.Go(func() {
		<-running.Done()
		close(replaced)
	})
	rt.done.Go(func() { a.lint(running, rt.admin) })
	rt.done.Go(func() {
		rt.connections.Run(running, []store.Store{sessions, accounts}, func(ctx context.Context, c *session.Connection, now time.Time) bool {
			return a.judge(ctx, g, c, now)
		})
	})
	return rt, nil
}

// passkeys is that factor as it is configured.
func (a *App) passkeys() webauthn.Factor {
	if w := a.Factor.WebAuthn; w != nil {
		return webauthn.Factor{RPID: w.RPID, DisplayName: w.DisplayName, RelatedOrigins: w.RelatedOrigins, Roots: a.makers}
	}
	return webauthn.Factor{}
}

// judge says whether a connection that was let in before may stay open. Where its other end is, is looked up again: the file of
// countries may have changed since, and the configuration that has let it in may not have asked.
func (a *App) judge(ctx context.Context, g *gate.Gate, c *session.Connection, now time.Time) bool {
	client := a.client(&c.Subject)
	if entry, ok := c.Entry.(*gate.Entry); ok {
		return a.stillAdmits(ctx, g, entry, c.Subject.Application, &client, now)
	}
	return g.Again(ctx, c.Current, c.Subject.Application, &client, now).Verdict == gate.Pass
}

// configureStores hands this configuration's settings to stores that may have others from an earlier one.
func (a *App) configureStores() {
	for _, m := range []storeModule{a.sessions, a.accounts} {
		if c, ok := m.(interface{ configure() }); ok {
			c.configure()
		}
	}
}

// openStores opens the stores, and warns of what can be lost with them.
func (a *App) openStores(ctx context.Context) error {
	a.configureStores()
	for _, m := range []storeModule{a.sessions, a.accounts} {
		if o, ok := m.Store().(store.Opener); ok {
			if err := o.Open(ctx); err != nil {
				return fmt.Errorf("opening store: %w", err)
			}
		}
		if m == a.accounts {
			if adviser, ok := m.Store().(store.Adviser); ok {
				advice, err := adviser.Advise(ctx)
				if err != nil {
					a.log.Warn("asking the account store how durable it is", zap.Error(err))
				}
				for _, line := range advice {
					a.log.Warn("the account store can lose data", zap.String("advice", line))
				}
			}
		}
		if a.sessions == a.accounts {
			break
		}
	}
	return nil
}

// Keys in Caddy's own storage. They lie apart from the store's file: who copies or loses one folder has not both.
const (
	secretKey     = "mfa_keys/secret"
	generationKey = "mfa_keys/account_store"
)

// keyring takes the configured secrets, or the one that was made at the first start.
func (a *App) keyring(ctx context.Context) (*seal.Keyring, error) {
	if len(a.secrets) > 0 {
		return seal.NewKeyring(a.secrets...)
	}
	storage := a.ctx.Storage()
	if err := storage.Lock(ctx, "mfa_secret"); err != nil {
		return nil, fmt.Errorf("locking secret: %w", err)
	}
	defer func() {
		if err := storage.Unlock(ctx, "mfa_secret"); err != nil {
			a.log.Error("unlocking secret", zap.Error(err))
		}
	}()
	secret, err := storage.Load(ctx, secretKey)
	if errors.Is(err, fs.ErrNotExist) {
		secret = newSecret()
		if err = storage.Store(ctx, secretKey, secret); err == nil {
			a.log.Info("made a secret, which seals what is kept: back it up, apart from the account store", zap.String("storage_key", secretKey))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading secret from Caddy's storage: %w", err)
	}
	return seal.NewKeyring([]byte(strings.TrimSpace(string(secret))))
}

// generationKeeper keeps the account store's name in Caddy's storage.
type generationKeeper struct{ storage certmagic.Storage }

func (k generationKeeper) Load(ctx context.Context) (string, error) {
	text, err := k.storage.Load(ctx, generationKey)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(text)), err
}

func (k generationKeeper) Save(ctx context.Context, text string) error {
	return k.storage.Store(ctx, generationKey, []byte(text+"\n"))
}

func (a *App) register(h *Handler) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handlers = append(a.handlers, h)
}

// maxLintLines is how many findings are logged at a start. After an import there may be hundreds.
const maxLintLines = 20

// lint warns of what in the policies may not be meant.
func (a *App) lint(ctx context.Context, service *admin.Service) {
	found, err := service.Lint(ctx, time.Now())
	if err != nil && ctx.Err() == nil {
		a.log.Warn("policy lint: who there is can't be found out now", zap.Error(err))
	}
	for i, f := range found {
		if i == maxLintLines {
			a.log.Warn("policy lint: there is more, which `caddy-mfa mfa policy lint` shows", zap.Int("more", len(found)-i))
			break
		}
		a.log.Warn("policy lint", zap.String("kind", string(f.Kind)), zap.String("policy", f.Policy), zap.String("finding", f.Sentence))
	}
}

// applications names every application that a site has, sorted. The sites must have been checked.
func (a *App) applications() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var names []string
	for _, h := range a.handlers {
		if !h.PagesOnly {
			names = append(names, h.gated.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// perUserUpstreams names the applications that want a user's own credential, sorted. The sites must have been checked.
func (a *App) perUserUpstreams() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var names []string
	for _, h := range a.handlers {
		if h.UpstreamBasic == config.PerUser {
			names = append(names, h.gated.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
