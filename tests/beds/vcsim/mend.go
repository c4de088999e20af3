package main

import (
	"bytes"
	"regexp"
)

var (
	array     = regexp.MustCompile(`(?s)(<val [^>]*xsi:type="(?:\w+:)?ArrayOf(\w+)"[^>]*>)(.*?)</val>`)
	declared  = []byte(` xmlns:XMLSchema-instance="http://www.w3.org/2001/XMLSchema-instance"`)
	mountInfo = []byte("<mountInfo>")
	mountPath = []byte("<mountInfo><path>/vmfs/volumes/store</path>")
)

// mend makes an answer as strict as a real host's, on which libvirt's driver relies.
func mend(body []byte, mountPaths bool) []byte {
	// One prefix, the envelope's, so that below only one has to be looked for.
	body = bytes.ReplaceAll(body, declared, nil)
	body = bytes.ReplaceAll(body, []byte(" XMLSchema-instance:type="), []byte(" xsi:type="))
	body = array.ReplaceAllFunc(body, typedItems)
	if mountPaths {
		// Without it libvirt's client dereferences NULL, in the process that called.
		body = bytes.ReplaceAll(body, mountInfo, mountPath)
	}
	return body
}

// typedItems gives each item of an ArrayOfX its type.
func typedItems(value []byte) []byte {
	parts := array.FindSubmatch(value)
	item := string(parts[2])
	if item == "String" || item == "Int" {
		item = string(bytes.ToLower(parts[2]))
	}
	open := regexp.MustCompile(`<` + item + `( [^>]*)?>`)
	items := open.ReplaceAllFunc(parts[3], func(tag []byte) []byte {
		if bytes.Contains(tag, []byte("xsi:type=")) {
			return tag
		}
		return append([]byte(`<`+item+` xsi:type="`+item+`"`), tag[len(item)+1:]...)
	})
	return append(append(append([]byte{}, parts[1]...), items...), "</val>"...)
}
