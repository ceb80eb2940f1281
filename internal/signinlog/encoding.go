package signinlog

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// A batch is a byte that says how the rest is written, and JSON that was compressed (DEFLATE, RFC 1951) with the dictionary of that
// number: a sign-in alone has a kilobyte, most of it names of fields.
const formatV1 = 1

// dictionaryV1 is what most sign-ins have in common. It must never change: what was written with it could not be read any more.
const dictionaryV1 = `"reportOnlyInterrupted"},"reportOnlyNotApplied"},"reportOnlyFailure"},"reportOnlySuccess"},"notEnabled"},"notApplied"},` +
	`"failureReason":"mfa_required"},"registration_required"},"user_blocked"},"security_defaults_off"},` +
	`"errorCode":500121,"failureReason":"Authentication failed during strong authentication request."},` +
	`"errorCode":53003,"failureReason":"","errorCode":50126,"failureReason":"Invalid user name or password."},` +
	`"Mobile Apps and Desktop clients","Exchange ActiveSync","Other clients",` +
	`"authenticationMethod":"temporary_access_pass","authenticationMethod":"recovery_code","authenticationMethod":"webauthn",` +
	`Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1` +
	`Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15` +
	`Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0` +
	`Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36` +
	`Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0` +
	`"appliedConditionalAccessPolicies":[{"id":"","displayName":"Require MFA for all users","enforcedGrantControls":["mfa"],` +
	`"enforcedSessionControls":[],"result":"success"},"enforcedGrantControls":["block"],"result":"failure"}],"singleFactorAuthentication",` +
	`"authenticationDetails":[],"ipAddress":"2001:db8:"ipAddress":"192.168.` +
	`[{"id":"","createdDateTime":"2026-","userDisplayName":"","userPrincipalName":"","userId":"file/","appDisplayName":"","ipAddress":"10.",` +
	`"clientAppUsed":"Browser","userAgent":"Mozilla/5.0 (","correlationId":"","conditionalAccessStatus":"notApplied",` +
	`"appliedConditionalAccessPolicies":[],"authenticationRequirement":"multiFactorAuthentication",` +
	`"authenticationDetails":[{"authenticationStepDateTime":"2026-","authenticationMethod":"password","succeeded":true,` +
	`"authenticationStepResultDetail":"succeeded"},{"authenticationStepDateTime":"2026-","authenticationMethod":"totp","succeeded":true,` +
	`"authenticationStepResultDetail":"succeeded"}],"deviceDetail":{"deviceId":"","displayName":"","operatingSystem":"","browser":"",` +
	`"isCompliant":false,"isManaged":false,"trustType":""},"location":{"city":"","countryOrRegion":""},` +
	`"riskLevelDuringSignIn":"none","riskState":"none","status":{"errorCode":0,"failureReason":""},"isInteractive":true}]`

// encoder writes batches. It is for one goroutine.
type encoder struct{ w *flate.Writer }

func (e *encoder) encode(signIns []audit.SignIn) []byte {
	var b bytes.Buffer
	b.WriteByte(formatV1)
	if e.w == nil {
		var err error
		if e.w, err = flate.NewWriterDict(nil, flate.DefaultCompression, []byte(dictionaryV1)); err != nil {
			panic(err) // only a level that there isn't
		}
	}
	e.w.Reset(&b)
	e.w.Write(marshal(signIns)) // a buffer takes everything
	e.w.Close()
	return b.Bytes()
}

// maxDecoded is more than a batch can have.
const maxDecoded = 2 * maxBatch * MaxRecord

var errFormat = errors.New("it was written by a version of caddy-mfa that is newer, or not by caddy-mfa")

// decoder reads batches. It is for one goroutine, and worth keeping for several batches.
type decoder struct {
	r    io.ReadCloser // a flate.Resetter
	text bytes.Buffer
}

// decode reads what encode wrote.
func (d *decoder) decode(value []byte) (signIns []audit.SignIn, err error) {
	if len(value) == 0 || value[0] != formatV1 || len(value) > store.MaxValue {
		return nil, errFormat
	}
	packed := bytes.NewReader(value[1:])
	if d.r == nil {
		d.r = flate.NewReaderDict(packed, []byte(dictionaryV1))
	} else if err := d.r.(flate.Resetter).Reset(packed, []byte(dictionaryV1)); err != nil {
		return nil, err
	}
	d.text.Reset()
	if _, err := d.text.ReadFrom(io.LimitReader(d.r, maxDecoded)); err != nil {
		return nil, fmt.Errorf("unpacking: %w", err)
	}
	if err := json.Unmarshal(d.text.Bytes(), &signIns); err != nil {
		return nil, err
	}
	return signIns, nil
}
