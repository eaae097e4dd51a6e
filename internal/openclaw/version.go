package openclaw

import "agento.host/agento/internal/openclaw/install"

// Image is the name of the agent runtime in the API.
const Image = "openclaw/openclaw:" + install.OpenClawVersion
