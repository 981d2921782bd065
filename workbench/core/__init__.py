"""The ground floor: fields, registries, events, metrics, errors and storage. Imports no torch and no Qt."""
