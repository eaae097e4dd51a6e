module agento.host/agento/client

go 1.25.0
