"""From a verb's request to the operation that it asks for: one file a subject, one function a verb, each refusing what can be seen to be wrong."""
