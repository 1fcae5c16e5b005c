-- A workflow, the fields included; whoever changes it at the moment is waited for.
WITH gone AS (
    DELETE FROM {schema}.flows WHERE flow = %(flow)s
)
DELETE FROM {schema}.flow_fields WHERE flow = %(flow)s
