"""The broker KIS: credentials, REST, WebSocket, pacing."""
