// Tests of the whole: the real binary, a real Redis, real browsers, real applications. A module of its own, so that who
// builds caddy-mfa does not inherit what they need.
module github.com/caddy-mfa/caddy-mfa/integration

go 1.26.0

require github.com/pquerna/otp v1.5.0

require github.com/boombuler/barcode v1.1.0 // indirect

replace github.com/caddy-mfa/caddy-mfa => ../
