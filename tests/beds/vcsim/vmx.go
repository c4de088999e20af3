package main

import (
	"regexp"
	"strconv"
	"strings"
)

const emptyDefinition = `config.version = "8"
virtualHW.version = "8"
guestOS = "other"
`

// current is a stored definition with what was changed since; a default one where the simulator stored nothing.
func current(file string, stored []byte) []byte {
	machine := machineAt(file)
	if machine == nil {
		return stored
	}
	text := string(stored)
	if text == "" {
		text = emptyDefinition
	}
	config := machine.Config
	text = with(text, "displayName", config.Name)
	text = with(text, "uuid.bios", vmxUUID(config.Uuid))
	text = with(text, "memsize", strconv.Itoa(int(config.Hardware.MemoryMB)))
	if limit := config.MemoryAllocation.Limit; limit != nil && *limit >= 0 {
		text = with(text, "sched.mem.max", strconv.FormatInt(*limit, 10))
	}
	return []byte(with(text, "numvcpus", strconv.Itoa(int(config.Hardware.NumCPU))))
}

func line(key string) *regexp.Regexp {
	return regexp.MustCompile(`(?mi)^` + regexp.QuoteMeta(key) + ` *= *"([^"]*)" *\n?`)
}

func value(text, key string) string {
	return first(line(key), []byte(text))
}

func with(text, key, now string) string {
	return line(key).ReplaceAllString(text, "") + key + ` = "` + now + "\"\n"
}

// uuidOf turns "01 23 45 67 89 ab cd ef-01 …" into the usual form.
func uuidOf(text string) string {
	hex := strings.NewReplacer(" ", "", "-", "").Replace(text)
	if len(hex) != 32 {
		return ""
	}
	return strings.Join([]string{hex[:8], hex[8:12], hex[12:16], hex[16:20], hex[20:]}, "-")
}

func vmxUUID(text string) string {
	hex := strings.ReplaceAll(text, "-", "")
	var pairs []string
	for place := 0; place+2 <= len(hex); place += 2 {
		pairs = append(pairs, hex[place:place+2])
	}
	if len(pairs) != 16 {
		return ""
	}
	return strings.Join(pairs[:8], " ") + "-" + strings.Join(pairs[8:], " ")
}
