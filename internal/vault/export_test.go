package vault

// At calls do after each step of a rotation. An error ends the rotation there, as a crash
// would.
func (r Rotation) At(do func(step string) error) Rotation {
	r.reached = do
	return r
}

// MaxTextKeys is how many keys of texts are kept.
const MaxTextKeys = maxTextKeys

// KeptTextKeys returns how many keys of texts are kept now.
func (v *Vault) KeptTextKeys() int {
	v.texts.mu.Lock()
	defer v.texts.mu.Unlock()
	return len(v.texts.byOwner)
}
