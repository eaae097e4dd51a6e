package user

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6238, and what every authenticator app has
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

// The names of the secrets of the second factor.
const (
	totpSecret  provider.SecretName = "TOTP_SECRET"
	totpPending provider.SecretName = "TOTP_PENDING" // not confirmed yet
)

const (
	totpPeriod     = 30 // seconds of a code
	totpBytes      = 20
	recoveryCodes  = 10
	recoveryBytes  = 10
	recoveryLength = 16 // characters without hyphens
)

// TOTPSetup is what an authenticator app needs.
type TOTPSetup struct {
	Secret vault.Secret // in base32, to be typed
	URL    vault.Secret // otpauth://…, to be shown as a QR code
}

// BeginTOTP makes a secret for the second factor of the person, which ConfirmTOTP then puts
// into force. present is the password, if the person has one.
// Faults: Forbidden, if the password is wrong; Conflict, if there is a second factor already.
func (s *Service) BeginTOTP(ctx context.Context, session Session, present vault.Secret) (TOTPSetup, error) {
	if _, err := s.checkOwn(ctx, session, present); err != nil {
		return TOTPSetup{}, err
	}
	key := make([]byte, totpBytes)
	_, _ = rand.Read(key)
	secret := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(key)
	err := s.db.Tx(ctx, "user.begin_totp", func(ctx context.Context, tx *database.Tx) error {
		p, err := find(ctx, tx, string(session.Person.ID))
		if err != nil {
			return err
		}
		if p.TOTP {
			return fault.New(fault.Conflict, "You have a second factor already. Remove it first.")
		}
		return s.vault.PutOfUser(ctx, tx, p.ID, totpPending, vault.NewSecret(secret))
	})
	if err != nil {
		return TOTPSetup{}, fmt.Errorf("begin the second factor: %w", err)
	}
	return TOTPSetup{Secret: vault.NewSecret(secret), URL: vault.NewSecret(TOTPAddress(session.Person.Email, secret))}, nil
}

// TOTPAddress returns the address of a secret, which authenticator apps read as a QR code.
func TOTPAddress(email, secret string) string {
	link := url.URL{Scheme: "otpauth", Host: "totp", Path: "/agento:" + email, RawQuery: url.Values{"secret": {secret}, "issuer": {"agento"}}.Encode()}
	return link.String()
}

// ConfirmTOTP puts the secret of BeginTOTP into force, if the code is of it, and returns the
// recovery codes, each of which replaces a code once. The person's other sessions end.
// Faults: Invalid, if the code is wrong; Conflict, if there is no secret; RateLimited.
func (s *Service) ConfirmTOTP(ctx context.Context, session Session, code string) (recovery []vault.Secret, err error) {
	if err := s.countTry(ctx, session.Person.Email); err != nil {
		return nil, err
	}
	err = s.db.Tx(ctx, "user.confirm_totp", func(ctx context.Context, tx *database.Tx) error {
		p, err := find(ctx, tx, string(session.Person.ID))
		if err != nil {
			return err
		}
		secret, err := s.vault.ReadOfUser(ctx, tx, p.ID, totpPending)
		if err != nil {
			return err
		}
		if p.TOTP || secret.Empty() {
			return fault.New(fault.Conflict, "There is no second factor to confirm. Begin again.")
		}
		step := matchTOTP(secret, code, 0, now())
		if step == 0 {
			return fault.Fields{"code": "is wrong: check the clock of your phone, and type the code that the app shows now"}.Err()
		}
		if err := vault.ShredUser(ctx, tx, p.ID); err != nil {
			return err
		}
		if err := s.vault.PutOfUser(ctx, tx, p.ID, totpSecret, secret); err != nil {
			return err
		}
		if _, err := database.Exec(ctx, tx, `UPDATE users SET totp_at = $1, totp_step = $2 WHERE id = $3`, database.Millis(now()), step, p.ID); err != nil {
			return err
		}
		if recovery, err = replaceRecoveryCodes(ctx, tx, p); err != nil {
			return err
		}
		if _, err := endSessions(ctx, tx, p.ID, session.ID); err != nil {
			return err
		}
		if err := clearTries(ctx, tx, p.Email); err != nil {
			return err
		}
		return s.appendOwn(ctx, tx, session.actor(), p.ID, "user.second_factor_set", nil)
	})
	if err != nil {
		return nil, fmt.Errorf("confirm the second factor: %w", err)
	}
	return recovery, nil
}

// NewRecoveryCodes replaces the recovery codes of the person. code is one of the second factor.
// Faults: Unauthorized, if the code is wrong; Conflict, if there is no second factor; RateLimited.
func (s *Service) NewRecoveryCodes(ctx context.Context, session Session, code string) (recovery []vault.Secret, err error) {
	err = s.withCode(ctx, session, "user.new_recovery_codes", code, func(ctx context.Context, tx *database.Tx, p Person) error {
		if recovery, err = replaceRecoveryCodes(ctx, tx, p); err != nil {
			return err
		}
		return s.appendOwn(ctx, tx, session.actor(), p.ID, "user.recovery_codes_replaced", nil)
	})
	return recovery, err
}

// RemoveTOTP removes the second factor of the person, and ends its other sessions. code is one
// of it. An operator's cannot be removed.
// Faults: Unauthorized, if the code is wrong; Conflict; RateLimited.
func (s *Service) RemoveTOTP(ctx context.Context, session Session, code string) error {
	return s.withCode(ctx, session, "user.remove_totp", code, func(ctx context.Context, tx *database.Tx, p Person) error {
		if p.Operator {
			return fault.New(fault.Conflict, "Operators need a second factor. The installation's administrator can reset it: agento users reset %s --second-factor", p.Email)
		}
		if err := s.removeTOTP(ctx, tx, p); err != nil {
			return err
		}
		if _, err := endSessions(ctx, tx, p.ID, session.ID); err != nil {
			return err
		}
		return s.appendOwn(ctx, tx, session.actor(), p.ID, "user.second_factor_removed", nil)
	})
}

// RecoveryCodesLeft returns how many recovery codes a person has.
func (s *Service) RecoveryCodesLeft(ctx context.Context, session Session) (int, error) {
	return database.One(ctx, s.db, database.Scalar[int], `SELECT COUNT(*) FROM recovery_codes WHERE user_id = $1`, session.Person.ID)
}

func (s *Service) withCode(ctx context.Context, session Session, kind, code string, f func(context.Context, *database.Tx, Person) error) error {
	if err := s.countTry(ctx, session.Person.Email); err != nil {
		return err
	}
	return s.db.Tx(ctx, kind, func(ctx context.Context, tx *database.Tx) error {
		p, err := find(ctx, tx, string(session.Person.ID))
		if err != nil {
			return err
		}
		if !p.TOTP {
			return fault.New(fault.Conflict, "You have no second factor.")
		}
		if err := s.useCode(ctx, tx, p, code); err != nil {
			return err
		}
		if err := clearTries(ctx, tx, p.Email); err != nil {
			return err
		}
		return f(ctx, tx, p)
	})
}

// removeTOTP removes the second factor of a person.
func (s *Service) removeTOTP(ctx context.Context, tx *database.Tx, p Person) error {
	if err := vault.ShredUser(ctx, tx, p.ID); err != nil {
		return err
	}
	if _, err := database.Exec(ctx, tx, `DELETE FROM recovery_codes WHERE user_id = $1`, p.ID); err != nil {
		return err
	}
	_, err := database.Exec(ctx, tx, `UPDATE users SET totp_at = 0, totp_step = 0 WHERE id = $1`, p.ID)
	return err
}

// useCode uses up a code of the second factor or a recovery code. Faults: Unauthorized.
func (s *Service) useCode(ctx context.Context, tx *database.Tx, p Person, code string) error {
	code = strings.ToUpper(strings.NewReplacer(" ", "", "-", "", "\t", "").Replace(code))
	if len(code) == recoveryLength {
		n, err := database.Exec(ctx, tx, `DELETE FROM recovery_codes WHERE user_id = $1 AND hash = $2`, p.ID, hashOf(code))
		if err != nil || n == 1 {
			return err
		}
		return wrongCode()
	}
	secret, err := s.vault.ReadOfUser(ctx, tx, p.ID, totpSecret)
	if err != nil {
		return fmt.Errorf("read the second factor of %s: %w", p.ID, err)
	}
	last, err := database.One(ctx, tx, database.Scalar[int64], `SELECT totp_step FROM users WHERE id = $1`, p.ID)
	if err != nil {
		return err
	}
	step := matchTOTP(secret, code, last, now())
	if step == 0 {
		return wrongCode()
	}
	_, err = database.Exec(ctx, tx, `UPDATE users SET totp_step = $1 WHERE id = $2`, step, p.ID)
	return err
}

func wrongCode() error {
	return fault.New(fault.Unauthorized, "The code is wrong, or was used already. Wait for the next one.").With("code", "is wrong")
}

// matchTOTP returns the time step after last that a code is of, 0 if it is of none. Clocks may
// differ by one step.
func matchTOTP(secret vault.Secret, code string, last int64, at time.Time) int64 {
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret.Reveal())
	if err != nil || len(key) == 0 {
		return 0
	}
	present, found := at.Unix()/totpPeriod, int64(0)
	for step := present - 1; step <= present+1; step++ {
		if subtle.ConstantTimeCompare([]byte(codeAt(key, step)), []byte(code)) == 1 && step > last && found == 0 {
			found = step
		}
	}
	return found
}

// codeAt returns the code of a time step (RFC 4226).
func codeAt(key []byte, step int64) string {
	mac := hmac.New(sha1.New, key)
	_ = binary.Write(mac, binary.BigEndian, step) // a hash takes everything
	sum := mac.Sum(nil)
	offset := sum[len(sum)-1] & 0xf
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[offset:])&0x7fffffff%1_000_000)
}

// replaceRecoveryCodes makes new recovery codes of a person.
func replaceRecoveryCodes(ctx context.Context, tx *database.Tx, p Person) ([]vault.Secret, error) {
	if _, err := database.Exec(ctx, tx, `DELETE FROM recovery_codes WHERE user_id = $1`, p.ID); err != nil {
		return nil, err
	}
	codes := make([]vault.Secret, recoveryCodes)
	for i := range codes {
		b := make([]byte, recoveryBytes)
		_, _ = rand.Read(b)
		code := base32.StdEncoding.EncodeToString(b)
		if _, err := database.Exec(ctx, tx, `INSERT INTO recovery_codes (user_id, hash) VALUES ($1, $2)`, p.ID, hashOf(code)); err != nil {
			return nil, err
		}
		codes[i] = vault.NewSecret(strings.ToLower(code[:4] + "-" + code[4:8] + "-" + code[8:12] + "-" + code[12:]))
	}
	return codes, nil
}
