"""The running side: one class per duty. `docket.worker.Worker` puts them together; nobody else looks in here."""
