package widget

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

const (
	// maxTokenAge is how far ahead the end of a signed token may be.
	maxTokenAge = time.Hour
	// clockSkew is how far the clock of the backend that signs may be off.
	clockSkew = time.Minute
	// maxToken bounds a token, in bytes.
	maxToken = 16 << 10
	// visitorAge is how long a token of a visitor without a signed one lasts. Each visit renews it.
	visitorAge = 30 * 24 * time.Hour
	// visitorPurpose is that of the key which signs tokens of visitors without a signed one.
	visitorPurpose = "widget visitors"
	// visitorPrefix begins the peers that the server makes.
	visitorPrefix = "visitor-"

	maxPeer        = 256
	maxContext     = 2000
	maxVisitorName = 100
)

// Presented is what a request says of its visitor.
type Presented struct {
	Key     string // of the widget
	Token   string // signed by the customer's backend; empty: none
	Visitor string // a token of this server; empty: none
	Origin  string // of the page; empty: the browser has named none
}

// Visitor is who asks through a widget: one peer of one agent.
type Visitor struct {
	Widget  Widget
	PeerID  string // empty: the visitor has neither token, which only a new visit may
	Name    string // from the signed token; empty: none
	Context any    // from the signed token, with the name: a text, or names with values; nil: none
	Signed  bool   // the customer's backend has signed the token

	namesPeer    bool
	keyNumber    int64
	secretNumber int64     // that of the secret which has signed; 0: none has
	expires      time.Time // of the signed token; zero: there is none
}

// NamesPeer reports whether the customer's backend has named the peer.
func (v Visitor) NamesPeer() bool { return v.namesPeer }

// Actor returns the visitor as an actor.
func (v Visitor) Actor() identity.Actor { return identity.ByWidget(v.Widget.AccountID, v.Widget.ID) }

// Identify returns the visitor that a request is of.
// Faults: Unauthorized, if the widget or a token is not valid; Forbidden, if the page may not use
// the widget; PlanLimit.
func (s *Service) Identify(ctx context.Context, p Presented) (Visitor, error) {
	w, number, err := s.identifyWidget(ctx, p.Key)
	if err != nil {
		return Visitor{}, err
	}
	if !w.AllowsOrigin(p.Origin) {
		return Visitor{}, fault.New(fault.Forbidden, "Pages of %.200s may not use this chat widget. Add that origin to the widget's allowed origins.", orNone(p.Origin))
	}
	v := Visitor{Widget: w, keyNumber: number}
	if p.Token != "" {
		if err := s.readSignedToken(ctx, &v, p.Token); err != nil {
			return Visitor{}, err
		}
	}
	if p.Visitor != "" && !v.namesPeer {
		if v.PeerID, err = s.readVisitorToken(ctx, w, p.Visitor); err != nil {
			return Visitor{}, err
		}
	}
	return v, nil
}

func orNone(origin string) string {
	if origin == "" {
		return "an unknown origin"
	}
	return origin
}

// Find returns an enabled widget by its key. Faults: Unauthorized; PlanLimit.
func (s *Service) Find(ctx context.Context, key string) (Widget, error) {
	w, _, err := s.identifyWidget(ctx, key)
	return w, err
}

// identifyWidget returns the widget with a key, and the number of that key.
func (s *Service) identifyWidget(ctx context.Context, key string) (Widget, int64, error) {
	if !wellFormed(key) {
		return Widget{}, 0, unknownWidget()
	}
	w, err := findByKey(ctx, s.db, key)
	if errors.Is(err, sql.ErrNoRows) {
		return Widget{}, 0, unknownWidget()
	}
	if err != nil {
		return Widget{}, 0, fmt.Errorf("find widget: %w", err)
	}
	number := w.keyNumber
	if w.Key != key {
		number--
	}
	if !w.Enabled || number < w.oldestKey(now()) {
		return Widget{}, 0, unknownWidget()
	}
	account, err := s.accounts.Account(ctx, string(w.AccountID))
	if fault.Is(err, fault.NotFound) || err == nil && account.State() != access.AccountActive {
		return Widget{}, 0, unknownWidget()
	}
	if err != nil {
		return Widget{}, 0, err
	}
	return w, number, s.accounts.Allows(ctx, access.Principal{AccountID: account.ID, PlanID: account.PlanID}, access.FeatureAPIAccess)
}

// oldestKey returns the number of the oldest key that is valid.
func (w Widget) oldestKey(at time.Time) int64 {
	if at.Before(w.PreviousKeyUntil) {
		return w.keyNumber - 1
	}
	return w.keyNumber
}

// oldestSecret returns the number of the oldest signing secret that is valid.
func (w Widget) oldestSecret(at time.Time) int64 {
	if at.Before(w.PreviousSecretUntil) {
		return w.secretNumber - 1
	}
	return w.secretNumber
}

func unknownWidget() error {
	return fault.New(fault.Unauthorized, "There is no chat widget with this key, or it is not enabled.")
}

func wellFormed(key string) bool {
	rest, ok := strings.CutPrefix(key, KeyPrefix)
	decoded, err := hex.DecodeString(rest)
	return ok && err == nil && len(decoded) == keyBytes && strings.ToLower(rest) == rest
}

// claims are those of a token.
type claims struct {
	jwt.RegisteredClaims
	PeerID  *string `json:"peerId,omitempty"`
	Context any     `json:"context,omitempty"`
	Name    string  `json:"name,omitempty"`
}

// readSignedToken adds what the customer's backend says of a visitor.
func (s *Service) readSignedToken(ctx context.Context, v *Visitor, token string) error {
	owner := ownerOf(v.Widget.ID)
	owned, err := s.vault.ReadMany(ctx, s.db, v.Widget.AccountID, owner)
	if err != nil {
		return fmt.Errorf("read the signing secret of a widget: %w", err)
	}
	secrets := owned[owner].Secrets
	current, ok := secrets[signingSecret]
	if !ok {
		return fault.New(fault.Unavailable, "The signing secret of this chat widget cannot be read. Rotate it.").Because(owned[owner].Unreadable())
	}
	number := v.Widget.secretNumber
	c, err := verify(v.Widget.ID, current, token)
	if previous, ok := secrets[previousSigningSecret]; errors.Is(err, jwt.ErrTokenSignatureInvalid) && ok && now().Before(v.Widget.PreviousSecretUntil) {
		if c, err = verify(v.Widget.ID, previous, token); err == nil {
			number--
		}
	}
	if err != nil {
		return tokenFault(err)
	}
	if c.ExpiresAt.After(now().Add(maxTokenAge + clockSkew)) {
		return invalidToken("its exp must be at most one hour ahead")
	}
	v.Signed, v.secretNumber, v.expires = true, number, c.ExpiresAt.Time
	return v.take(c)
}

// take checks the claims of a signed token and adds them to the visitor.
func (v *Visitor) take(c claims) error {
	if c.PeerID != nil {
		peer := *c.PeerID
		if fault.IsBlank(peer) || utf8.RuneCountInString(peer) > maxPeer || strings.ContainsRune(peer, 0) {
			return invalidToken("its peerId must be a text of 1 to %d characters", maxPeer)
		}
		v.PeerID, v.namesPeer = peer, true
	}
	v.Name = strings.Join(strings.Fields(c.Name), " ")
	if utf8.RuneCountInString(v.Name) > maxVisitorName {
		return invalidToken("its name must have at most %d characters", maxVisitorName)
	}
	switch context := c.Context.(type) {
	case nil:
		if v.Name != "" {
			v.Context = map[string]any{"name": v.Name}
		}
	case string:
		if v.Context = context; v.Name != "" {
			v.Context = "name: " + v.Name + "\n" + context
		}
	case map[string]any:
		context = maps.Clone(context)
		if _, ok := context["name"]; !ok && v.Name != "" {
			context["name"] = v.Name
		}
		v.Context = context
	default:
		return invalidToken("its context must be a text, or an object of names and values")
	}
	return nil
}

// visitorKey returns the key that signs the tokens of visitors without a signed one.
func (s *Service) visitorKey(ctx context.Context, w Widget) (vault.Secret, error) {
	key, err := s.vault.Token(ctx, s.db, w.AccountID, ownerOf(w.ID), visitorPurpose)
	if err != nil {
		return key, fmt.Errorf("read the key of a widget's visitors: %w", err)
	}
	return key, nil
}

// NewVisitorToken returns a token for the peer of a visitor, who gets one if it has none yet, and
// until when it is valid. A visitor whose backend has named the peer needs none.
func (s *Service) NewVisitorToken(ctx context.Context, v Visitor) (token string, until time.Time, err error) {
	key, err := s.visitorKey(ctx, v.Widget)
	if err != nil {
		return "", time.Time{}, err
	}
	peer := v.PeerID
	if peer == "" {
		peer = newToken(visitorPrefix, keyBytes)
	}
	until = now().Add(visitorAge)
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims{
		RegisteredClaims: jwt.RegisteredClaims{Audience: jwt.ClaimStrings{string(v.Widget.ID)}, ExpiresAt: jwt.NewNumericDate(until)}, PeerID: &peer,
	}).SignedString([]byte(key.Reveal()))
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign the token of a visitor: %w", err)
	}
	return signed, until, nil
}

// readVisitorToken returns the peer of a token of this server.
func (s *Service) readVisitorToken(ctx context.Context, w Widget, token string) (peer string, err error) {
	key, err := s.visitorKey(ctx, w)
	if err != nil {
		return "", err
	}
	c, err := verify(w.ID, key, token)
	if err != nil {
		return "", tokenFault(err)
	}
	if c.PeerID == nil || !strings.HasPrefix(*c.PeerID, visitorPrefix) {
		return "", invalidToken("it names no visitor")
	}
	return *c.PeerID, nil
}

// errClaims are claims that the library takes and we do not.
var (
	errAudience = errors.New("aud must be the id of the widget alone")
	errCritical = errors.New("the header has crit")
)

// verify returns the claims of a token that a secret has signed for a widget.
func verify(id identity.WidgetID, secret vault.Secret, token string) (claims, error) {
	var c claims
	if len(token) > maxToken {
		return c, jwt.ErrTokenMalformed
	}
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithExpirationRequired(), jwt.WithStrictDecoding(),
		jwt.WithAudience(string(id)), jwt.WithLeeway(clockSkew),
	)
	parsed, err := parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return []byte(secret.Reveal()), nil })
	if err != nil {
		return c, err
	}
	if !now().Before(c.ExpiresAt.Time) { // the skew is for nbf and for the distance of exp
		return c, jwt.ErrTokenExpired
	}
	if len(c.Audience) != 1 || !slices.Contains(c.Audience, string(id)) {
		return c, errAudience
	}
	if _, ok := parsed.Header["crit"]; ok {
		return c, errCritical
	}
	return c, nil
}

// tokenFault returns what is wrong with a token, without what is in it.
func tokenFault(err error) error {
	problem := "it is not a signed JSON Web Token"
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		problem = "it has expired"
	case errors.Is(err, jwt.ErrTokenInvalidAudience), errors.Is(err, errAudience):
		problem = "its aud must be the id of this widget, and nothing else"
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		problem = "it needs exp and aud"
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		problem = "it is not valid yet"
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable):
		problem = "it must be signed with HS256 and the signing secret of this widget"
	case errors.Is(err, jwt.ErrTokenMalformed):
	case errors.Is(err, errCritical):
		problem = "its header must not have crit"
	}
	return fault.From(invalidToken("%s", problem)).Because(err)
}

func invalidToken(format string, args ...any) error {
	return fault.New(fault.Unauthorized, "The token of this visitor is not valid: %s. Get another one.", fmt.Sprintf(format, args...)).With("token", fmt.Sprintf(format, args...))
}
