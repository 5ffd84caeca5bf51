// register first: its hooks must stand before any instrumented library is loaded.
import './register.js'
import './telemetry/start-sdk.js'
