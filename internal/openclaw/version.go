package openclaw

import "agento.host/agento/internal/openclaw/install"

// Image names the agent runtime as the API shows it.
const Image = "openclaw/openclaw:" + install.OpenClawVersion
