package virtrpc

import (
	"regexp"
	"strings"

	"virtrpc.dev/go/virtrpcv1"
)

// Only the form with hyphens: 32 bare digits are a legal name.
var uuidForm = regexp.MustCompile(`^(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// Domain is the reference for a NAME, a UUID, HOST/NAME or HOST/UUID.
func Domain(text string) *virtrpcv1.DomainRef {
	ref, name := &virtrpcv1.DomainRef{}, text
	if slash := strings.LastIndex(text, "/"); slash >= 0 {
		ref.Host, name = text[:slash], text[slash+1:]
	}
	if uuidForm.MatchString(name) {
		ref.Ref = &virtrpcv1.DomainRef_Uuid{Uuid: name}
	} else {
		ref.Ref = &virtrpcv1.DomainRef_Name{Name: name}
	}
	return ref
}

// DomainOf is the reference for a domain out of an earlier answer, by its host and UUID. It takes [*virtrpcv1.Domain] and
// [*virtrpcv1.DomainIdentity].
func DomainOf(domain interface {
	GetHost() string
	GetUuid() string
}) *virtrpcv1.DomainRef {
	return &virtrpcv1.DomainRef{Host: domain.GetHost(), Ref: &virtrpcv1.DomainRef_Uuid{Uuid: domain.GetUuid()}}
}
