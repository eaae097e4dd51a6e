package user

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

func TestSignInGivesTheRoleOfTheAccount(t *testing.T) {
	e := newEnv(t)
	e.join(e.account, "ada@example.com", access.Developer)
	in := e.signIn(" Ada@Example.COM ")
	s := must(e.Session(t.Context(), in.Token.Reveal()))(t)
	if s.Person.Email != "ada@example.com" || s.AccountID != e.account || s.Role != access.Developer || s.Address != "192.0.2.1" || s.Agent != "Firefox on amachine" || s.Method != ByPassword {
		t.Errorf("%+v", s)
	}
	who := must(e.Principal(t.Context(), s))(t)
	if who.Scopes != access.Developer.Scopes() || who.Actor() != identity.ByUser(e.account, s.Person.ID) || who.Actor().Kind != identity.User || who.Name() != string(s.Person.ID) {
		t.Errorf("%+v", who)
	}
	for _, token := range []string{"", "x", strings.Repeat("a", 43), in.Token.Reveal() + "a", strings.Repeat("a", 1<<20)} {
		_, err := e.Session(t.Context(), token)
		wantFault(t, err, fault.Unauthorized)
	}
	if err := e.SignOut(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	_, err := e.Session(t.Context(), in.Token.Reveal())
	wantFault(t, err, fault.Unauthorized)
}

// Neither the answer nor the work says whether there is a person, also after too many tries.
func TestUnknownAddressesAreLikeWrongPasswords(t *testing.T) {
	e := newEnv(t)
	e.join(e.account, "ada@example.com", access.Owner)
	answers := map[string][]string{}
	for _, email := range []string{"ada@example.com", "nobody@example.com", "no address"} {
		for range maxTries + 2 {
			_, err := e.SignIn(t.Context(), email, vault.NewSecret("a wrong password"), Client{})
			answers[email] = append(answers[email], strings.Split(fault.From(err).Message, " in ")[0])
		}
	}
	if got := answers["ada@example.com"]; got[0] == got[maxTries] || strings.Join(got, "\n") != strings.Join(answers["nobody@example.com"], "\n") || strings.Join(got, "\n") != strings.Join(answers["no address"], "\n") {
		t.Errorf("%q", answers)
	}
	// Every hash waits for its turn, that of nobody too.
	for range maxHashes {
		e.hasher.running <- struct{}{}
	}
	for _, email := range []string{"grace@example.com", "nobody2@example.com"} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, err := e.SignIn(ctx, email, vault.NewSecret(password), client()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", email, err)
		}
		cancel()
	}
}

// Tries are counted by person over every way in, before the password is checked, and end with the
// window or a complete sign-in.
func TestTriesAreCountedByPersonOverAllWaysIn(t *testing.T) {
	e := newEnv(t)
	in := e.join(e.account, "ada@example.com", access.Owner)
	e.setUpTOTP(in.Session)
	challenge := must(e.SignIn(t.Context(), "ada@example.com", vault.NewSecret(password), client()))(t).Challenge.Reveal() // 1
	for range 4 {                                                                                                          // 5
		_, err := e.SignInWithCode(t.Context(), challenge, "000000", client())
		wantFault(t, err, fault.Unauthorized)
	}
	wantFault(t, e.ChangePassword(t.Context(), in.Session, vault.NewSecret("a wrong password"), vault.NewSecret("another password")), fault.Forbidden) // 6
	var all sync.WaitGroup
	var mu sync.Mutex
	checked := 0
	for range 20 { // at the same time
		all.Go(func() {
			_, err := e.SignIn(t.Context(), "ada@example.com", vault.NewSecret("a wrong password"), Client{})
			mu.Lock()
			defer mu.Unlock()
			if fault.Is(err, fault.Unauthorized) {
				checked++
			}
		})
	}
	all.Wait()
	if checked != maxTries-6 {
		t.Errorf("%d passwords were checked, want %d", checked, maxTries-6)
	}
	for name, try := range map[string]func() error{
		"the right password": func() error {
			_, err := e.SignIn(t.Context(), "ada@example.com", vault.NewSecret(password), client())
			return err
		},
		"a code":   func() error { _, err := e.SignInWithCode(t.Context(), challenge, "000000", client()); return err },
		"removing": func() error { return e.RemoveTOTP(t.Context(), in.Session, "000000") },
		"changing": func() error {
			return e.ChangePassword(t.Context(), in.Session, vault.NewSecret(password), vault.NewSecret("another password"))
		},
	} {
		err := try()
		if f := fault.From(err); f.Code != fault.RateLimited || f.RetryAfter <= 0 || f.RetryAfter > triesWindow {
			t.Errorf("%s: %v", name, err)
		}
	}
	e.exec(`UPDATE sign_in_tries SET since = since - $1`, triesWindow.Milliseconds())
	if _, err := e.SignIn(t.Context(), "ada@example.com", vault.NewSecret(password), client()); err != nil {
		t.Error(err)
	}
}

// A person who knows the password does not win tries of codes by it.
func TestAPasswordAloneDoesNotForgetTries(t *testing.T) {
	e := newEnv(t)
	e.setUpTOTP(e.join(e.account, "ada@example.com", access.Owner).Session)
	for range maxTries {
		in, err := e.SignIn(t.Context(), "ada@example.com", vault.NewSecret(password), client())
		if fault.Is(err, fault.RateLimited) {
			return
		}
		_, _ = e.SignInWithCode(t.Context(), in.Challenge.Reveal(), "000000", client())
	}
	t.Error("tries are not limited")
}

func TestSecondFactor(t *testing.T) {
	e := newEnv(t)
	first := e.join(e.account, "ada@example.com", access.Owner)
	other := e.signIn("ada@example.com")
	key, recovery := e.setUpTOTP(first.Session)
	_, err := e.Session(t.Context(), other.Token.Reveal())
	wantFault(t, err, fault.Unauthorized) // it had no second factor
	step := time.Now().Unix() / totpPeriod
	code := func(code string) (SignedIn, error) {
		e.exec(`DELETE FROM sign_in_tries`)
		in := must(e.SignIn(t.Context(), "ada@example.com", vault.NewSecret(password), client()))(t)
		if !in.NeedsCode() || !in.Token.Empty() {
			t.Fatal("no code is needed")
		}
		return e.SignInWithCode(t.Context(), in.Challenge.Reveal(), code, client())
	}
	_, err = code(codeAt(key, step-1))
	wantFault(t, err, fault.Unauthorized) // it was used to confirm
	in := must(code(codeAt(key, step)))(t)
	if in.Session.Person.ID != first.Session.Person.ID || !in.Session.Person.TOTP {
		t.Errorf("%+v", in.Session)
	}
	for _, used := range []string{codeAt(key, step), codeAt(key, step-1), codeAt(key, step+5), "", "12345", "1234567"} {
		_, err = code(used)
		wantFault(t, err, fault.Unauthorized)
	}
	e.exec(`DELETE FROM sign_in_tries`)
	if len(recovery) != recoveryCodes {
		t.Fatal(len(recovery))
	}
	must(code(" " + strings.ToUpper(recovery[3].Reveal()) + " "))(t)
	_, err = code(recovery[3].Reveal())
	wantFault(t, err, fault.Unauthorized)
	if n := must(e.RecoveryCodesLeft(t.Context(), in.Session))(t); n != recoveryCodes-1 {
		t.Error(n)
	}
	e.exec(`DELETE FROM sign_in_tries`)
	if err := e.RemoveTOTP(t.Context(), in.Session, recovery[0].Reveal()); err != nil {
		t.Fatal(err)
	}
	e.signIn("ada@example.com")
}

// The same code at the same time signs one person in.
func TestACodeIsUsedOnce(t *testing.T) {
	e := newEnv(t)
	key, _ := e.setUpTOTP(e.join(e.account, "ada@example.com", access.Owner).Session)
	in := must(e.SignIn(t.Context(), "ada@example.com", vault.NewSecret(password), client()))(t)
	again := must(e.SignIn(t.Context(), "ada@example.com", vault.NewSecret(password), client()))(t)
	var all sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 6 {
		all.Go(func() {
			challenge := []SignedIn{in, again}[i%2].Challenge.Reveal()
			if _, err := e.SignInWithCode(t.Context(), challenge, codeAt(key, time.Now().Unix()/totpPeriod), client()); err == nil {
				mu.Lock()
				won++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if won != 1 {
		t.Errorf("%d have signed in", won)
	}
}

// RFC 6238, appendix B, cut to six digits.
func TestCodesAreThoseOfTheRFC(t *testing.T) {
	for at, want := range map[int64]string{59: "287082", 1111111109: "081804", 1234567890: "005924", 20000000000: "353130"} {
		if got := codeAt([]byte("12345678901234567890"), at/totpPeriod); got != want {
			t.Errorf("at %d: %s, want %s", at, got, want)
		}
	}
}

func TestPasswordChangeEndsOtherSessionsAndLinks(t *testing.T) {
	e := newEnv(t)
	first := e.join(e.account, "ada@example.com", access.Owner)
	other := e.signIn("ada@example.com")
	link := must(e.ResetLink(t.Context(), e.operator(), "ada@example.com", false))(t)
	for _, bad := range []string{"", "short", "            ", "aaaaaaaaaaaa", "ada@example.com", strings.Repeat("x", 2000), "not utf-8 \xff bytes"} {
		wantFault(t, e.ChangePassword(t.Context(), first.Session, vault.NewSecret(password), vault.NewSecret(bad)), fault.Invalid)
	}
	if err := e.ChangePassword(t.Context(), first.Session, vault.NewSecret(password), vault.NewSecret("another password")); err != nil {
		t.Fatal(err)
	}
	must(e.Session(t.Context(), first.Token.Reveal()))(t)
	_, err := e.Session(t.Context(), other.Token.Reveal())
	wantFault(t, err, fault.Unauthorized)
	_, err = e.Inspect(t.Context(), Reset, link.Token.Reveal())
	wantFault(t, err, fault.NotFound)
	_, err = e.SignIn(t.Context(), "ada@example.com", vault.NewSecret(password), client())
	wantFault(t, err, fault.Unauthorized)
	must(e.SignIn(t.Context(), "ada@example.com", vault.NewSecret("another password"), client()))(t)
}

// The same password typed on another keyboard is the same.
func TestPasswordsAreNormalized(t *testing.T) {
	h := newHasher(argonMemory)
	stored := must(h.hash(t.Context(), vault.NewSecret("café déjà vu ångström")))(t)
	if ok := must(h.check(t.Context(), stored, vault.NewSecret("cafe\u0301 de\u0301ja\u0300 vu a\u030angstro\u0308m")))(t); !ok {
		t.Error("it is another password")
	}
	if strings.Contains(stored, "caf") || !strings.HasPrefix(stored, "$argon2id$v=19$m=32768,t=3,p=1$") {
		t.Error(stored)
	}
	for _, damaged := range []string{"x", "$argon2id$v=19$m=99999999,t=3,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", strings.Replace(stored, "t=3", "t=0", 1)} {
		if _, err := h.check(t.Context(), damaged, vault.NewSecret(password)); err == nil {
			t.Errorf("%q is checked", damaged)
		}
	}
}

func TestSessionsEndByThemselves(t *testing.T) {
	e := newEnv(t)
	e.join(e.account, "ada@example.com", access.Owner)
	idle, old, valid := e.signIn("ada@example.com"), e.signIn("ada@example.com"), e.signIn("ada@example.com")
	e.exec(`UPDATE sign_ins SET used_at = used_at - $1 WHERE id = $2`, SessionIdle.Milliseconds(), idle.Session.ID)
	e.exec(`UPDATE sign_ins SET expires_at = $1 WHERE id = $2`, database.Millis(now()), old.Session.ID)
	for _, s := range []SignedIn{idle, old} {
		_, err := e.Session(t.Context(), s.Token.Reveal())
		wantFault(t, err, fault.Unauthorized)
	}
	if all := must(e.Sessions(t.Context(), valid.Session.Person.ID))(t); len(all) != 2 { // and that of the invitation
		t.Errorf("%+v", all)
	}
	e.sweep(t.Context())
	if n := must(database.One(t.Context(), e.db, database.Scalar[int], `SELECT COUNT(*) FROM sign_ins`))(t); n != 3 {
		t.Error(n) // the idle one goes a minute later
	}
	if lifetime := valid.Session.ExpiresAt.Sub(valid.Session.CreatedAt); lifetime != SessionLifetime {
		t.Error(lifetime)
	}
}

func TestUseOfSessionsIsWritten(t *testing.T) {
	e := newEnv(t)
	in := e.join(e.account, "ada@example.com", access.Owner)
	e.exec(`UPDATE sign_ins SET used_at = used_at - 1000000`)
	must(e.Session(t.Context(), in.Token.Reveal()))(t)
	e.flush(t.Context())
	if s := must(e.Session(t.Context(), in.Token.Reveal()))(t); time.Since(s.UsedAt) > time.Minute {
		t.Error(s.UsedAt)
	}
}

// Nobody has more sessions than the limit: the one that was used least recently ends.
func TestSessionsAreLimited(t *testing.T) {
	e := newEnv(t)
	in := e.join(e.account, "ada@example.com", access.Owner)
	for range maxSessions + 3 {
		err := e.db.Tx(t.Context(), "user.test", func(ctx context.Context, tx *database.Tx) error {
			_, err := e.startSession(ctx, tx, in.Session.Person, "", ByPassword, client())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if all := must(e.Sessions(t.Context(), in.Session.Person.ID))(t); len(all) != maxSessions {
		t.Error(len(all))
	}
}

func TestEndingSessions(t *testing.T) {
	e := newEnv(t)
	e.join(e.account, "ada@example.com", access.Owner)
	stranger := e.join(e.account, "eve@example.com", access.Viewer)
	a, b := e.signIn("ada@example.com"), e.signIn("ada@example.com")
	wantFault(t, e.EndSession(t.Context(), stranger.Session, a.Session.ID), fault.NotFound)
	if err := e.EndSession(t.Context(), a.Session, b.Session.ID); err != nil {
		t.Fatal(err)
	}
	_, err := e.Session(t.Context(), b.Token.Reveal())
	wantFault(t, err, fault.Unauthorized)
	if n := must(e.EndOtherSessions(t.Context(), a.Session))(t); n != 1 {
		t.Error(n)
	}
	must(e.Session(t.Context(), a.Token.Reveal()))(t)
	must(e.Session(t.Context(), stranger.Token.Reveal()))(t)
}

// Nothing that gives access is in the database as it is.
func TestTheDatabaseHasNoTokens(t *testing.T) {
	e := newEnv(t)
	in := e.join(e.account, "ada@example.com", access.Owner)
	key, recovery := e.setUpTOTP(in.Session)
	_, link, err := e.Invite(t.Context(), e.operator(), "grace@example.com", access.Viewer)
	if err != nil {
		t.Fatal(err)
	}
	challenge := must(e.SignIn(t.Context(), "ada@example.com", vault.NewSecret(password), client()))(t).Challenge
	secrets := []string{password, in.Token.Reveal(), recovery[0].Reveal(), strings.ToUpper(strings.ReplaceAll(recovery[0].Reveal(), "-", "")), link.Token.Reveal(), challenge.Reveal(), string(key)}
	tables := must(database.All(t.Context(), e.db, database.Scalar[string], `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'knowledge%' AND name NOT LIKE 'sqlite%'`))(t)
	for _, table := range tables {
		if text := dump(t, e.db, table); slices.ContainsFunc(secrets, func(s string) bool { return strings.Contains(text, s) }) {
			t.Errorf("%s has a secret", table)
		}
	}
}

// dump returns every value of a table; nothing of a virtual one.
func dump(t *testing.T, db *database.DB, table string) string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `SELECT * FROM `+table)
	if err != nil {
		return ""
	}
	defer func() { _ = rows.Close() }()
	columns := must(rows.Columns())(t)
	var text strings.Builder
	for rows.Next() {
		values, places := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			places[i] = &values[i]
		}
		if err := rows.Scan(places...); err != nil {
			t.Fatal(err)
		}
		for _, v := range values {
			if b, ok := v.([]byte); ok {
				v = string(b)
			}
			fmt.Fprintln(&text, v)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return text.String()
}
