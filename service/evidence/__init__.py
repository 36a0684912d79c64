"""The evidence: uploaded media and the findings of the checks, encrypted, in a folder or in object storage.

Also the probe of media before they are accepted. It does not keep the data keys (`service.store`), define the encrypted
format (`service.crypto`) or decide when evidence is erased (`service.cases`).
"""
