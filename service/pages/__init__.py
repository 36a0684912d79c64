"""Pages for people: the capture page for the person with the phone, and the report for a reviewer.

Their texts, styles and scripts are here. Which requests they answer and who may see them is for `service.http`.
"""
