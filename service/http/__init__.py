"""HTTP: the application, who may do what, errors as problem documents, and the OpenAPI document.

Routes are thin: they call the rooms below and show what comes back. What a request does is decided in `service.cases`,
`service.uploads`, `service.webhooks` and `service.pages`.
"""
