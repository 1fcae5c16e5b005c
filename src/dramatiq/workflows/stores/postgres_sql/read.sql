SELECT name, value FROM {schema}.flow_fields
WHERE flow = %(flow)s AND name = ANY (%(names)b::text[]) AND EXISTS (
    SELECT 1 FROM {schema}.flows WHERE flows.flow = %(flow)s AND expires_at > {schema}.now_ms()
)
